import { execFileSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

/** Paths of PEM files. */
export interface Certificate {
  readonly cert: string;
  readonly key: string;
  /** Key and certificate in one file, as Java reads them. */
  readonly both: string;
}

const DAY_MS = 24 * 3600 * 1000;

const CONFIG = `[ca]
default_ca = ours
[ours]
dir = .
new_certs_dir = $dir
database = $dir/index.txt
rand_serial = yes
unique_subject = no
default_md = sha256
policy = any
[any]
commonName = supplied
[server]
basicConstraints = critical, CA:false
subjectAltName = IP:127.0.0.1
[client]
basicConstraints = critical, CA:false
`;

/** A certificate authority of the test's own, made by the `openssl` command; what it signs lives for a day. */
export class CertificateAuthority implements Disposable {
  readonly folder = mkdtempSync(join(tmpdir(), "tailrace-ca-"));
  /** Path of its own certificate, PEM. */
  readonly ca = join(this.folder, "ca.pem");
  #issued = 0;

  constructor() {
    writeFileSync(join(this.folder, "ca.conf"), CONFIG);
    writeFileSync(join(this.folder, "index.txt"), "");
    this.#openssl("req", "-x509", ...NEW_KEY, "-days", "2", ...named("tests"), "-keyout", "ca.key", "-out", "ca.pem");
  }

  /** For a server on 127.0.0.1, by this address alone; or for a client called `name`. */
  issue(
    kind: "server" | "client",
    options: { readonly name?: string; readonly isExpired?: boolean } = {},
  ): Certificate {
    const { name = kind, isExpired = false } = options;
    this.#issued += 1;
    const folder = `${this.#issued}`;
    mkdirSync(join(this.folder, folder));
    const path = (file: string) => join(folder, file);
    const endMs = Date.now() + (isExpired ? -DAY_MS : DAY_MS);
    const dates = ["-startdate", asDate(endMs - 2 * DAY_MS), "-enddate", asDate(endMs)];
    this.#openssl("req", ...NEW_KEY, ...named(name), "-keyout", path("key.pem"), "-out", path("request.pem"));
    this.#openssl(
      ...["ca", "-batch", "-notext", "-config", "ca.conf", "-cert", "ca.pem", "-keyfile", "ca.key"],
      ...["-extensions", kind, ...dates, "-in", path("request.pem"), "-out", path("cert.pem")],
    );
    const [cert, key, both] = ["cert.pem", "key.pem", "both.pem"].map((file) => join(this.folder, folder, file)) as [
      string,
      string,
      string,
    ];
    writeFileSync(both, readFileSync(key, "utf8") + readFileSync(cert, "utf8"), { mode: 0o600 });
    return { cert, key, both };
  }

  #openssl(...args: readonly string[]): void {
    execFileSync("openssl", args, { cwd: this.folder, stdio: "pipe" });
  }

  [Symbol.dispose](): void {
    rmSync(this.folder, { recursive: true, force: true });
  }
}

const NEW_KEY = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];

const named = (name: string): string[] => ["-subj", `/CN=${name}`];

/** YYYYMMDDHHMMSSZ, as openssl-ca(1) takes it. */
function asDate(atMs: number): string {
  return `${new Date(atMs).toISOString().slice(0, 19).replace(/[-T:]/g, "")}Z`;
}
