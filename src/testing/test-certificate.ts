import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

export interface TestCertificate {
  /** PEM. */
  readonly cert: string;
  readonly key: string;
  readonly certPath: string;
  readonly keyPath: string;
  remove(): void;
}

/** A self-signed certificate for `localhost` and 127.0.0.1, made by the `openssl` command in a temporary folder. */
export function testCertificate(): TestCertificate {
  const folder = mkdtempSync(join(tmpdir(), "tailrace-tls-"));
  const [certPath, keyPath] = [join(folder, "cert.pem"), join(folder, "key.pem")];
  const names = "subjectAltName=DNS:localhost,IP:127.0.0.1";
  const kind = ["-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"];
  const files = ["-keyout", keyPath, "-out", certPath];
  execFileSync("openssl", ["req", ...kind, "-subj", "/CN=localhost", "-addext", names, ...files], { stdio: "pipe" });
  return {
    cert: readFileSync(certPath, "utf8"),
    key: readFileSync(keyPath, "utf8"),
    certPath,
    keyPath,
    remove: () => rmSync(folder, { recursive: true }),
  };
}
