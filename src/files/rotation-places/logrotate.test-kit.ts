import { execFile, spawnSync } from "node:child_process";
import { appendFileSync, mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { promisify } from "node:util";

const environment = { ...process.env, PATH: `${process.env["PATH"]}:/usr/sbin:/sbin` };

/** In CI it is never missing: what needs it fails there. */
export const isLogrotateMissing =
  spawnSync("logrotate", ["--version"], { env: environment }).error !== undefined && process.env["CI"] !== "true";

/** The log `log/app.log` in a folder, which logrotate rotates by directives of its own. */
export class RotatedLog {
  readonly folder: string;
  readonly path: string;
  readonly config: string;
  readonly written: string[] = [];

  /** @param directives of its rule; `ROOT` in them is the folder */
  constructor(folder: string, directives: readonly string[]) {
    this.folder = folder;
    this.path = join(folder, "log/app.log");
    this.config = join(folder, "logrotate.conf");
    for (const name of ["log/old", "elsewhere", "logrotate.d"]) mkdirSync(join(folder, name), { recursive: true });
    writeFileSync(this.config, `include ${folder}/logrotate.d\n`, { mode: 0o644 });
    const body = ["rotate 20", ...directives].map((line) => ` ${line}\n`).join("");
    const rule = `# of a package\n"${folder}/log/ap?.log" {\n${body}}\n`.replaceAll("ROOT", folder);
    writeFileSync(join(folder, "logrotate.d/app"), rule, { mode: 0o644 });
  }

  /** Fifty lines, each another one. */
  write(): void {
    const first = this.written.length;
    for (let line = first; line < first + 50; line += 1) this.written.push(`line ${line}`);
    appendFileSync(this.path, `${this.written.slice(first).join("\n")}\n`);
  }

  async rotate(): Promise<void> {
    const flags = ["-f", "-s", join(this.folder, "state"), this.config];
    await promisify(execFile)("logrotate", flags, { env: environment });
  }
}

/** One of each list, in every way. */
export function combinationsOf(...lists: readonly (readonly string[])[]): { title: string; directives: string[] }[] {
  let combinations: string[][] = [[]];
  for (const list of lists) combinations = combinations.flatMap((before) => list.map((item) => [...before, item]));
  return combinations.map((directives) => ({ title: directives.join(", ").replaceAll("\n", ""), directives }));
}
