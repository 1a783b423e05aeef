import { type ChildProcess, execFileSync, spawn, spawnSync } from "node:child_process";
import {
  appendFileSync,
  chownSync,
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import pg from "pg";
import { PgSession } from "../../src/postgres/session.ts";
import { systemClock } from "../../src/runtime/clock.ts";
import { installPgmq } from "../../src/sinks/pgmq/install.ts";
import { freePorts, passing, ServerProcess } from "./server-process.ts";

/** Debian keeps the server's programs out of the path, one folder for each version. */
const DEBIAN = "/usr/lib/postgresql";

/** Where `postgres` and `initdb` are; undefined: nowhere. */
function programs(): string | undefined {
  const folders = existsSync(DEBIAN) ? readdirSync(DEBIAN).map((version) => join(DEBIAN, version, "bin")) : [];
  folders.push(...(process.env["PATH"] ?? "").split(":"));
  return folders.find((folder) => existsSync(join(folder, "postgres")) && existsSync(join(folder, "initdb")));
}

/** The server refuses to be run by root: the user that Debian's package makes for it, else this one. */
function serverUser(): { readonly uid: number; readonly gid: number } | undefined {
  if (process.getuid?.() !== 0) return undefined;
  const found = /^postgres:[^:]*:(\d+):(\d+):/m.exec(readFileSync("/etc/passwd", "utf8"));
  return found === null ? { uid: 65534, gid: 65534 } : { uid: Number(found[1]), gid: Number(found[2]) };
}

/** Whether there is a server to start. */
export function hasPostgres(): boolean {
  return programs() !== undefined;
}

/** A real PostgreSQL on a free port, with its data in a temporary folder; killed and started again on the same data. */
export class PostgresServer extends ServerProcess {
  readonly folder: string;
  readonly port: number;
  readonly #address: string;
  readonly #programs: string;
  readonly #user = serverUser();
  #settings: readonly string[] = [];

  private constructor(folder: string, port: number, address: string, path: string) {
    super();
    this.folder = folder;
    this.port = port;
    this.#address = address;
    this.#programs = path;
  }

  /**
   * @param settings further ones, as `-c name=value`.
   * @param options.tls PEM: it speaks TLS with these, and with everybody else in clear.
   * @param options.address where it listens, an IPv4 address of this machine.
   */
  static async start(
    settings: readonly string[] = [],
    options: { readonly tls?: { readonly cert: string; readonly key: string }; readonly address?: string } = {},
  ): Promise<PostgresServer> {
    const { tls, address = "127.0.0.1" } = options;
    const path = programs();
    if (path === undefined) throw new Error("there is no PostgreSQL to start");
    const folder = mkdtempSync(join(tmpdir(), "tailrace-postgres-"));
    const server = new PostgresServer(folder, (await freePorts(1))[0]!, address, path);
    const data = join(folder, "data");
    if (server.#user !== undefined) chownSync(folder, server.#user.uid, server.#user.gid);
    execFileSync(
      join(path, "initdb"),
      ["-D", data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync"],
      { stdio: "ignore", ...server.#user, cwd: folder },
    );
    // `initdb` lets in who comes from this machine's own address only.
    appendFileSync(join(data, "pg_hba.conf"), `host all all ${address}/24 trust\n`);
    if (tls === undefined) await server.restart(settings);
    else {
      for (const part of ["cert", "key"] as const) {
        const path = join(folder, `${part}.pem`);
        writeFileSync(path, tls[part], { mode: 0o600 });
        if (server.#user !== undefined) chownSync(path, server.#user.uid, server.#user.gid);
      }
      const files = [`ssl_cert_file=${join(folder, "cert.pem")}`, `ssl_key_file=${join(folder, "key.pem")}`];
      await server.restart([...settings, "ssl=on", ...files]);
    }
    return server;
  }

  /** Starts it again on the data that is there. */
  async restart(settings: readonly string[] = this.#settings): Promise<void> {
    this.#settings = settings;
    await this.start();
  }

  protected override launch(): ChildProcess {
    const more = this.#settings.flatMap((setting) => ["-c", setting]);
    return spawn(
      join(this.#programs, "postgres"),
      ["-D", join(this.folder, "data"), "-p", String(this.port), "-k", this.folder, "-h", this.#address, ...more],
      { stdio: ["ignore", "ignore", "pipe"], ...this.#user, cwd: this.folder },
    );
  }

  protected override async answer(): Promise<void> {
    const client = await this.client();
    await client.end();
  }

  /** For an agent; `user:password` as a server that trusts everybody takes them. */
  url(options: { readonly user?: string; readonly database?: string } = {}): string {
    return `postgres://${options.user ?? "postgres"}@${this.#address}:${this.port}/${options.database ?? "postgres"}`;
  }

  /** A client of the test's own. */
  async client(database = "postgres"): Promise<pg.Client> {
    const client = new pg.Client({ connectionString: this.url({ database }), application_name: "the test" });
    client.on("error", () => {});
    await client.connect();
    return client;
  }

  /** One query on a connection of its own. */
  async query<Row extends pg.QueryResultRow>(text: string, values: readonly unknown[] = []): Promise<Row[]> {
    const client = await this.client();
    try {
      return (await client.query<Row>(text, [...values])).rows;
    } finally {
      await client.end();
    }
  }

  /** PGMQ as plain SQL, where the server has no such extension. */
  async installPgmq(): Promise<void> {
    await using session = await PgSession.open(
      { url: this.url(), applicationName: "the test", timeoutMs: 10_000, clock: systemClock },
      new AbortController().signal,
    );
    await session.batch(["BEGIN"]);
    await installPgmq(session);
    await session.batch(["COMMIT"]);
  }

  /** SIGKILL to the server and everything that serves connections, as a crash of the machine's would be. */
  override async kill(): Promise<void> {
    const backends = this.pid === undefined ? [] : childrenOf(this.pid);
    const ended = this.end("SIGKILL");
    for (const backend of backends) {
      try {
        process.kill(backend, "SIGKILL");
      } catch {
        // It has noticed its master's end by itself.
      }
    }
    await ended;
    // The next one waits for the shared memory of the last backend.
    for (const endMs = Date.now() + 5000; Date.now() < endMs && backends.some(isAlive); ) await passing(2);
  }

  /** An immediate stop, by which it does not write a checkpoint; what a clean machine does at shutdown is `fast`. */
  override stop(how: "fast" | "immediate" = "fast"): Promise<void> {
    return this.end(how === "fast" ? "SIGINT" : "SIGQUIT");
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop("immediate");
    rmSync(this.folder, { recursive: true, force: true, maxRetries: 3 });
  }
}

function childrenOf(pid: number): number[] {
  const { stdout } = spawnSync("ps", ["-o", "pid=", "--ppid", String(pid)], { encoding: "utf8" });
  return (stdout ?? "").split("\n").map(Number).filter(Boolean);
}

/** A process that nobody has buried yet (`Z`) holds nothing any more. */
function isAlive(pid: number): boolean {
  try {
    return !/^\d+ \(.*\) [ZX]/.test(readFileSync(`/proc/${pid}/stat`, "utf8"));
  } catch {
    return false;
  }
}
