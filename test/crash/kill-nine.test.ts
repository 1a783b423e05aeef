import { describe, expect, it } from "vitest";
import { SeededRandom } from "../../src/testing/seeded-random.ts";
import { firstSeed } from "../seed.ts";
import { CrashMachine, passing, until } from "./machine.ts";
import { ROTATION_KINDS } from "./rotation-kinds.ts";
import { describeProblems, verify } from "./verify.ts";

/** Kills per kind of rotation: 20 in all in the suite; TAILRACE_TEST_ROUNDS for the long form. */
const ROUNDS = Number(process.env["TAILRACE_TEST_ROUNDS"] ?? 4);
const SEED = firstSeed();

const FILES = ["a.log", "b.log", "c.log"];

describe("agent › kill -9 at random moments with a live writer and logrotate", () => {
  it.each(ROTATION_KINDS.map((kind, index) => ({ ...kind, seed: SEED + index })))(
    "delivers each line once and in order: $title (seed $seed)",
    async ({ include, splitLines, gapMs, rotate, seed }) => {
      const random = new SeededRandom(seed);
      await using machine = new CrashMachine();
      const config = machine.configure({ include });
      const writer = await machine.writer({
        files: FILES,
        linesPerTick: 8,
        tickMs: 5,
        payloadBytes: 200,
        splitLines,
        seed,
      });
      const story: string[] = [];
      // A path that no checkpoint knows has no siblings to look for, so the first run ends gracefully. (Not with --once:
      // that would cut the lines that are half-written.)
      await until(() => machine.hasLogs(3), "the first lines");
      const first = machine.agent(config);
      await until(
        () => first.isOver || FILES.every((file) => machine.outputHas(`${file} `)),
        "every file's first line",
      );
      first.signal("SIGTERM");
      const started = await first.end();
      expect(started.code, started.stderr).toBe(0);
      const rotateOnce = async (when: string) => {
        story.push(`rotate ${when}`);
        await rotate(machine, writer);
        await passing(gapMs ?? 0);
      };
      for (let round = 0; round < ROUNDS; round += 1) {
        await writer.watched(true);
        const agent = machine.agent(config);
        const before = machine.outputBytes();
        // Some are killed while they start, most while they deliver.
        if (random.chance(0.8)) await until(() => agent.isOver || machine.outputBytes() > before, "the output to grow");
        await passing(random.int(0, 400));
        if (random.chance(0.6)) await rotateOnce("while it runs");
        await passing(random.int(0, 200));
        await agent.killAtWork();
        await writer.watched(false);
        story.push(`kill with ${machine.outputBytes()} bytes out`);
        for (let missed = random.int(0, 2); missed > 0; missed -= 1) await rotateOnce("while it is down");
      }
      const written = await writer.stop();
      const total = [...written.values()].reduce((sum, lines) => sum + lines.length, 0);
      const totalBytes = [...written.values()].flat().reduce((sum, line) => sum + Buffer.byteLength(line) + 1, 0);
      const agent = random.chance(0.5) ? machine.agent(config, "--once") : machine.agent(config);
      story.push(`finish, ${total} lines written`);
      await until(() => agent.isOver || machine.outputBytes() >= totalBytes, "all bytes to arrive").catch(() => {});
      agent.signal("SIGTERM");
      const exit = await agent.end();
      const verdict = verify(written, machine.outputLines(), { allowRepeats: false, late: writer.lateLines() });
      const account = `seed ${seed}\n${story.join("\n")}\n${describeProblems(verdict)}\n${exit.stderr}`;
      expect(exit.code, account).toBe(0);
      expect(verdict.problems.length, account).toBe(0);
      expect(verdict.lines).toBe(total);
      expect(total).toBeGreaterThan(0);
    },
    180_000 + ROUNDS * 10_000,
  );
});
