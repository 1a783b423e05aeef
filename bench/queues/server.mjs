// A PostgreSQL of our own in a temporary folder, from Debian's package, for the benches of this folder; or the one that
// PGURL names. Root may not run it: then it runs as the user postgres.
import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { chownSync, existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import pg from "pg";

const DEBIAN = "/usr/lib/postgresql";
const PORT = 54871;

export async function startServer() {
  if (process.env.PGURL !== undefined)
    return { url: process.env.PGURL, cpuSeconds: () => Number.NaN, stop: async () => {} };
  const bin = existsSync(DEBIAN) ? join(DEBIAN, readdirSync(DEBIAN).sort().at(-1), "bin") : undefined;
  if (bin === undefined) throw new Error("no PostgreSQL here: install Debian's postgresql, or set PGURL");
  const folder = mkdtempSync(join(tmpdir(), "tailrace-bench-"));
  const found = /^postgres:[^:]*:(\d+):(\d+):/m.exec(readFileSync("/etc/passwd", "utf8"));
  const user = process.getuid() === 0 ? { uid: Number(found[1]), gid: Number(found[2]) } : {};
  if (user.uid !== undefined) chownSync(folder, user.uid, user.gid);
  const run = { stdio: "ignore", cwd: folder, ...user };
  execFileSync(
    join(bin, "initdb"),
    ["-D", join(folder, "data"), "-U", "postgres", "-A", "trust", "--locale=C", "-E", "UTF8"],
    run,
  );
  const settings = ["-c", "shared_buffers=256MB", "-c", "max_wal_size=4GB"];
  const child = spawn(
    join(bin, "postgres"),
    ["-D", join(folder, "data"), "-p", PORT, "-k", folder, "-h", "127.0.0.1", ...settings],
    run,
  );
  const url = `postgres://postgres@127.0.0.1:${PORT}/postgres`;
  for (let tries = 0; ; tries += 1) {
    try {
      await (await connect(url)).end();
      break;
    } catch (error) {
      if (tries > 200) throw error;
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  }
  return {
    url,
    cpuSeconds: () => cpuSeconds(child.pid, true),
    async stop() {
      child.kill("SIGQUIT");
      await once(child, "exit");
      rmSync(folder, { recursive: true, force: true });
    },
  };
}

export async function connect(url) {
  const client = new pg.Client({ connectionString: url });
  client.on("error", () => {});
  await client.connect();
  return client;
}

const TICKS = Number(execFileSync("getconf", ["CLK_TCK"], { encoding: "utf8" }));

/** User and system time of a process and of its children that have ended; with `all`, also of those that have not (proc(5)). */
export function cpuSeconds(pid, all = false) {
  const fields = readFileSync(`/proc/${pid}/stat`, "utf8")
    .replace(/^.*\) /, "")
    .split(" ");
  let ticks = 0;
  for (const field of [11, 12, 13, 14]) ticks += Number(fields[field]);
  let seconds = ticks / TICKS;
  if (!all) return seconds;
  const children = readFileSync(`/proc/${pid}/task/${pid}/children`, "utf8").split(" ").filter(Boolean);
  for (const child of children) {
    try {
      seconds += cpuSeconds(child);
    } catch {
      // It has ended meanwhile.
    }
  }
  return seconds;
}
