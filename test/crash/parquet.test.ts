import { readdirSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { pathFromText } from "../../src/runtime/byte-path.ts";
import { nodeFileSystem } from "../../src/runtime/node-file-system.ts";
import { bytesOf, rowsOf } from "../../src/sinks/parquet/read-back.test-kit.ts";
import { SeededRandom } from "../../src/testing/seeded-random.ts";
import { firstSeed } from "../seed.ts";
import { CrashMachine, passing, until } from "./machine.ts";
import { ROTATION_KINDS } from "./rotation-kinds.ts";
import { describeProblems, verify } from "./verify.ts";

const ROUNDS = Number(process.env["TAILRACE_TEST_ROUNDS"] ?? 7);
const SEED = firstSeed();

const FILES = ["a.log", "b.log", "c.log"];
/** Logrotate's own default: renamed and created, compressed one rotation later. */
const ROTATION = ROTATION_KINDS[0]!;

const numberOf = (name: string) => Number(/-(\d+)\.parquet$/.exec(name)?.[1] ?? 0);

describe("agent › kill -9 at random moments while it writes Parquet files", () => {
  it(
    `has each line once, and in order, over all finished files (seed ${SEED})`,
    async () => {
      const random = new SeededRandom(SEED);
      await using machine = new CrashMachine();
      const folder = join(machine.folder, "out");
      const sink = `type = "parquet"
path = ${JSON.stringify(join(folder, "out.parquet"))}
row_group_records = 500
[sinks.out.rotate]
max_bytes = 20000`;
      const config = machine.configure({ include: ROTATION.include, sink });
      const writer = await machine.writer({
        files: FILES,
        linesPerTick: 8,
        tickMs: 5,
        payloadBytes: 200,
        splitLines: true,
        seed: SEED,
      });
      const finished = () => readdirSync(folder).filter((name) => name.endsWith(".parquet"));
      const others = () => readdirSync(folder).filter((name) => !name.endsWith(".parquet"));
      const story: string[] = [];
      const first = machine.agent(config);
      await until(() => first.isOver || finished().length > 0, "the first Parquet file");
      // A path that no checkpoint knows has no siblings to look for, so the first run ends gracefully.
      first.signal("SIGTERM");
      expect((await first.end()).code).toBe(0);
      expect(others(), "a clean stop finishes what is open").toEqual([]);
      for (let round = 0; round < ROUNDS; round += 1) {
        const agent = machine.agent(config);
        const before = finished().length;
        if (random.chance(0.7)) await until(() => agent.isOver || finished().length > before, "another Parquet file");
        await passing(random.int(0, 300));
        if (random.chance(0.3)) agent.signal("SIGUSR1");
        if (random.chance(0.5)) await ROTATION.rotate(machine, writer);
        await passing(random.int(0, 100));
        await agent.killAtWork();
        story.push(`kill with ${finished().length} finished, and ${others().join(" ")}`);
      }
      const written = await writer.stop();
      const total = [...written.values()].reduce((sum, lines) => sum + lines.length, 0);
      const exit = await machine.agent(config, "--once").end();
      const account = `seed ${SEED}\n${story.join("\n")}\n${exit.stderr}`;
      expect(exit.code, account).toBe(0);
      expect(others(), account).toEqual([]);
      const names = finished().sort((one, other) => numberOf(one) - numberOf(other));
      const lines: string[] = [];
      for (const name of names) {
        for (const row of await rowsOf(await bytesOf(nodeFileSystem, pathFromText(join(folder, name)))))
          lines.push(String(row["message"]));
      }
      const verdict = verify(written, lines, { allowRepeats: false, late: writer.lateLines() });
      expect(verdict.problems.length, `${describeProblems(verdict)}\n${account}`).toBe(0);
      expect(verdict.lines).toBe(total);
      expect(names.length).toBeGreaterThan(ROUNDS / 2);
      expect(total).toBeGreaterThan(0);
    },
    180_000 + ROUNDS * 5_000,
  );
});
