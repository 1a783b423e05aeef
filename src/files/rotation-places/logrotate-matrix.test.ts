import { execFile, spawnSync } from "node:child_process";
import { appendFileSync, mkdirSync, mkdtempSync, readFileSync, realpathSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { promisify } from "node:util";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { decompress } from "../../codec/decompress.ts";
import type { BytePath } from "../../runtime/byte-path.ts";
import { systemClock } from "../../runtime/clock.ts";
import { nodeFileSystem } from "../../runtime/node-file-system.ts";
import { silentLogger } from "../../telemetry/log.ts";
import type { Sibling } from "../family.ts";
import { Logrotate } from "./logrotate.ts";
import { oldestFirst } from "./oldest-first.ts";
import { RotationPlaces } from "./rotation-places.ts";

const environment = { ...process.env, PATH: `${process.env["PATH"]}:/usr/sbin:/sbin` };
const isMissing = spawnSync("logrotate", ["--version"], { env: environment }).error !== undefined;
const ROTATIONS = 3;

const WAYS = ["create", "copytruncate"];
const NAMES = [
  "nodateext",
  "dateext\n dateformat -%Y%m%d-%s",
  "dateext\n dateformat .%H-%M-%S_%d.%m.%Y",
  "extension .log",
];
const COMPRESSIONS = ["nocompress", "compress", "compress\n delaycompress", "compress\n compresscmd /usr/bin/xz"];
const FOLDERS = ["noolddir", "olddir old", "olddir ../elsewhere", "olddir ROOT/elsewhere"];

const combinations = WAYS.flatMap((way) =>
  NAMES.flatMap((names) =>
    COMPRESSIONS.flatMap((compression) => FOLDERS.map((folder) => [way, names, compression, folder])),
  ),
).map((directives, index) => ({ index, title: directives.join(", ").replaceAll("\n", ""), directives }));

describe.skipIf(isMissing && process.env["CI"] !== "true")("RotationPlaces, with logrotate itself", () => {
  let root: string;

  beforeAll(async () => {
    root = realpathSync(mkdtempSync(join(tmpdir(), "tailrace-matrix-")));
    for (const { index, directives } of combinations) configure(join(root, `${index}`), directives);
    for (let rotation = 0; rotation < ROTATIONS; rotation += 1) {
      // Names with dates tell seconds apart.
      if (rotation > 0) await sleep(1100);
      await Promise.all(combinations.map(({ index }) => rotate(join(root, `${index}`), rotation)));
    }
  }, 60_000);

  afterAll(() => rmSync(root, { recursive: true, force: true }));

  it.each(combinations)("finds every generation, in order: $title", async ({ index }) => {
    const folder = join(root, `${index}`);
    const log = join(folder, "log/app.log");
    const found = await generationsOf(log as BytePath, join(folder, "logrotate.conf") as BytePath);
    expect(found.filter(({ isGuess }) => isGuess)).toEqual([]);
    expect(found).toHaveLength(ROTATIONS);
    let text = "";
    for (const { name, compression } of found) text += await contentOf(name, compression);
    expect(text + readFileSync(log, "utf8")).toBe([0, 1, 2, 3].map(linesOf).join(""));
  });
});

function configure(folder: string, directives: readonly string[]): void {
  for (const name of ["log/old", "elsewhere", "logrotate.d"]) mkdirSync(join(folder, name), { recursive: true });
  writeFileSync(join(folder, "logrotate.conf"), `include ${folder}/logrotate.d\n`, { mode: 0o644 });
  const body = ["rotate 20", ...directives].map((line) => ` ${line}\n`).join("");
  const rule = `# of a package\n"${folder}/log/ap?.log" {\n${body}}\n`.replaceAll("ROOT", folder);
  writeFileSync(join(folder, "logrotate.d/app"), rule, { mode: 0o644 });
  writeFileSync(join(folder, "log/app.log"), linesOf(0));
}

async function rotate(folder: string, rotation: number): Promise<void> {
  const flags = ["-f", "-s", join(folder, "state"), join(folder, "logrotate.conf")];
  await promisify(execFile)("logrotate", flags, { env: environment });
  appendFileSync(join(folder, "log/app.log"), linesOf(rotation + 1));
}

/** What is written between two rotations. */
function linesOf(rotation: number): string {
  return Array.from({ length: 50 }, (_, index) => `line ${rotation * 50 + index}\n`).join("");
}

async function generationsOf(log: BytePath, config: BytePath): Promise<Sibling[]> {
  const shared = { fileSystem: nodeFileSystem, clock: systemClock };
  const userId = process.getuid!();
  const logrotate = new Logrotate({ ...shared, log: silentLogger, userId, configuration: [config] });
  const places = new RotationPlaces({ ...shared, rotatedTo: [], logrotate });
  const siblings: Sibling[] = [];
  for (const { folder, parse } of await places.placesOf(log))
    for (const { name } of await nodeFileSystem.readdir(folder)) siblings.push(...[parse(name) ?? []].flat());
  return oldestFirst(siblings, (name) => nodeFileSystem.statSync(name)?.modifiedMs);
}

async function contentOf(path: BytePath, compression: Sibling["compression"]): Promise<string> {
  const bytes = readFileSync(path);
  if (compression === undefined) return bytes.toString();
  const read = async (into: Buffer, length: number, offset: number) => bytes.copy(into, 0, offset, offset + length);
  const parts: Buffer[] = [];
  for await (const part of decompress(compression, read)) parts.push(part);
  return Buffer.concat(parts).toString();
}
