import { mkdtempSync, readFileSync, realpathSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { decompress } from "../../codec/decompress.ts";
import type { BytePath } from "../../runtime/byte-path.ts";
import { systemClock } from "../../runtime/clock.ts";
import { nodeFileSystem } from "../../runtime/node-file-system.ts";
import { silentLogger } from "../../telemetry/log.ts";
import type { Sibling } from "../family.ts";
import { combinationsOf, isLogrotateMissing, RotatedLog } from "./logrotate.test-kit.ts";
import { Logrotate } from "./logrotate.ts";
import { oldestFirst } from "./oldest-first.ts";
import { RotationPlaces } from "./rotation-places.ts";

const ROTATIONS = 3;

const combinations = combinationsOf(
  ["create", "copytruncate"],
  ["nodateext", "dateext\n dateformat -%Y%m%d-%s", "dateext\n dateformat .%H-%M-%S_%d.%m.%Y", "extension .log"],
  ["nocompress", "compress", "compress\n delaycompress", "compress\n compresscmd /usr/bin/xz"],
  ["noolddir", "olddir old", "olddir ../elsewhere", "olddir ROOT/elsewhere"],
);

describe.skipIf(isLogrotateMissing)("RotationPlaces, with logrotate itself", () => {
  const root = realpathSync(mkdtempSync(join(tmpdir(), "tailrace-matrix-")));
  const logs = combinations.map(({ directives }, index) => new RotatedLog(join(root, `${index}`), directives));

  beforeAll(async () => {
    for (const log of logs) log.write();
    for (let rotation = 0; rotation < ROTATIONS; rotation += 1) {
      // Names with dates tell seconds apart.
      if (rotation > 0) await sleep(1100);
      await Promise.all(logs.map((log) => log.rotate()));
      for (const log of logs) log.write();
    }
  }, 60_000);

  afterAll(() => rmSync(root, { recursive: true, force: true }));

  it.each(combinations.map(({ title }, index) => ({ title, log: logs[index]! })))(
    "finds every generation, in order: $title",
    async ({ log }) => {
      const found = await generationsOf(log);
      expect(found.filter(({ isGuess }) => isGuess)).toEqual([]);
      expect(found).toHaveLength(ROTATIONS);
      let text = "";
      for (const { name, compression } of found) text += await contentOf(name, compression);
      expect((text + readFileSync(log.path, "utf8")).split("\n")).toEqual([...log.written, ""]);
    },
  );
});

async function generationsOf({ path, config }: RotatedLog): Promise<Sibling[]> {
  const shared = { fileSystem: nodeFileSystem, clock: systemClock };
  const userId = process.getuid!();
  const logrotate = new Logrotate({ ...shared, log: silentLogger, userId, configuration: [config as BytePath] });
  const places = new RotationPlaces({ ...shared, rotatedTo: [], logrotate });
  const siblings: Sibling[] = [];
  for (const { folder, parse } of await places.placesOf(path as BytePath))
    for (const { name } of await nodeFileSystem.readdir(folder)) siblings.push(...[parse(name) ?? []].flat());
  return oldestFirst(siblings, (name) => nodeFileSystem.statSync(name)?.modifiedMs);
}

async function contentOf(path: BytePath, compression: Sibling["compression"]): Promise<string> {
  const bytes = readFileSync(path);
  if (compression === undefined) return bytes.toString();
  const read = async (into: Buffer, length: number, offset: number) => bytes.copy(into, 0, offset, offset + length);
  const parts: Buffer[] = [];
  for await (const part of decompress(compression, read)) {
    // Asked again after its end it would look whether there is more.
    if (!Buffer.isBuffer(part)) break;
    parts.push(part);
  }
  return Buffer.concat(parts).toString();
}
