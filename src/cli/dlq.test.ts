import { EventEmitter } from "node:events";
import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { SMALL, sampleStages } from "../../test/config/sample-stages.ts";
import { type DeadLetter, letterOf, openDeadLetters } from "../dead-letters/index.ts";
import { systemRandom } from "../runtime/random.ts";
import { contractBatch } from "../testing/transform-contract.ts";
import type { CliIo, CliStream } from "./io.ts";
import { main } from "./main.ts";

let folder = "";
let stateDir = "";
const cleanups: (() => unknown)[] = [];
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "tailrace-cli-dlq-"));
  stateDir = join(folder, "state");
  writeFileSync(join(folder, "tailrace.toml"), SMALL);
});
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
  rmSync(folder, { recursive: true, force: true });
});

async function run(args: string, stdout?: CliStream): Promise<{ code: number; out: string; err: string }> {
  const [out, err]: [string[], string[]] = [[], []];
  const io: CliIo = {
    stdout: stdout ?? { write: (text) => out.push(text) },
    stderr: { write: (text) => err.push(text) },
    env: {},
    cwd: folder,
    exitCode: 0,
    stages: sampleStages,
  };
  const code = await main(["dlq", ...args.split(" "), "--state-dir", stateDir], io);
  return { code, out: out.join(""), err: err.join("") };
}

function letters(count: number, component = "out"): DeadLetter[] {
  return contractBatch(Array.from({ length: count }, (_, index) => `line ${index}`)).records.map((record) =>
    letterOf(record, { component, reason: "too\nlarge", attempts: 2, nowMs: 1000 }),
  );
}

async function stored(some: readonly DeadLetter[]): Promise<void> {
  mkdirSync(stateDir, { recursive: true });
  const options = { folder: join(stateDir, "dead-letters"), maxBytes: 1e9, random: systemRandom };
  const store = await openDeadLetters(options);
  await store.put(some);
  await store.close();
}

const shown = ({ id, component, reason, attempts, time, event }: DeadLetter) => ({
  id,
  component,
  reason,
  attempts,
  time,
  event,
});

/** A running agent as commands see it: answers with how many ids it was given, but at most `most` times. */
async function agentThatCounts(most = Number.POSITIVE_INFINITY): Promise<{ path: string; ids: string[] }[]> {
  const asked: { path: string; ids: string[] }[] = [];
  const server = createServer(async (request, response) => {
    if (request.method === "GET") return response.end("{}");
    const { ids } = JSON.parse(await text(request)) as { ids: string[] };
    if (asked.length >= most) return response.writeHead(500).end('{"message":"the disk is full"}');
    asked.push({ path: request.url!, ids });
    return response.end(JSON.stringify({ [request.url === "/dlq/replay" ? "replayed" : "purged"]: ids.length }));
  });
  await new Promise<void>((resolve) => server.listen(join(stateDir, "control.sock"), resolve));
  cleanups.push(() => new Promise((resolve) => server.close(resolve).closeAllConnections()));
  return asked;
}

/** Takes one text at a time, and has seen enough after so many. */
class SlowReader extends EventEmitter implements CliStream {
  readonly #enough: number;
  writes = 0;
  #isBusy = false;

  constructor(enough: number) {
    super();
    this.#enough = enough;
  }

  write(): boolean {
    expect(this.#isBusy).toBe(false);
    this.#isBusy = true;
    this.writes += 1;
    setImmediate(() => {
      this.#isBusy = false;
      this.emit(this.writes === this.#enough ? "error" : "drain", new Error("EPIPE"));
    });
    return false;
  }
}

describe("dlq list", () => {
  it.each([0, 1, 3])("prints %i letters as one JSON value", async (count) => {
    const some = letters(count);
    await stored(some);
    expect(await run("list --json")).toEqual({
      code: 0,
      out: `${JSON.stringify(some.map(shown), null, 2)}\n`,
      err: "",
    });
  });

  it("prints a table of any length, and says where there is nothing to print", async () => {
    expect(await run("list")).toEqual({ code: 0, out: "", err: "no dead letters\n" });
    await stored([...letters(250, "out"), ...letters(1, "a longer name")]);
    const lines = (await run("list --component out")).out.replaceAll("too\nlarge", "x").split("\n");
    expect(lines).toHaveLength(252);
    expect(new Set(lines.slice(0, 251).map((line) => line.lastIndexOf("  ")))).toHaveProperty("size", 1);
    expect((await run("list")).out).toContain("a longer name");
  });

  it.each(["list", "list --json"])("prints no faster than it is read, and no longer (%s)", async (command) => {
    await stored(letters(450));
    const slow = new SlowReader(30);
    expect((await run(command, slow)).code).toBe(0);
    expect(slow.writes).toBe(30);
  });
});

describe("dlq replay and dlq purge", () => {
  it("change the letters of a component, or all, at rest", async () => {
    await stored([...letters(1200, "one"), ...letters(3, "two")]);
    expect(await run("replay --component two")).toMatchObject({
      code: 0,
      err: "3 of 3 dead letters sent again when the agent next runs\n",
    });
    expect(await run("purge --component one")).toMatchObject({ code: 0, err: "1200 of 1200 dead letters deleted\n" });
    const left = JSON.parse((await run("list --json")).out) as DeadLetter[];
    expect(left.map(({ component }) => component)).toEqual(["two", "two", "two"]);
    expect(await run(`purge ${left[0]!.id} ${left[0]!.id} nonesuch`)).toMatchObject({
      code: 1,
      err: "1 of 2 dead letters deleted\n",
    });
  });

  it("say that there are none where nothing ever ran, and make nothing", async () => {
    for (const command of ["replay --all", "purge --component out", "purge 12ab"])
      expect(await run(command)).toMatchObject({
        code: command.endsWith("12ab") ? 1 : 0,
        err: `there are no dead letters in ${stateDir}\n`,
      });
    expect(existsSync(stateDir)).toBe(false);
  });

  it.each(["replay", "purge"])("hand any number to a running agent, a thousand at a time (%s)", async (what) => {
    const many = letters(2500);
    await stored(many);
    const asked = await agentThatCounts();
    const done = what === "replay" ? "sent again" : "deleted";
    expect(await run(`${what} --all`)).toMatchObject({ code: 0, err: `2500 of 2500 dead letters ${done}\n` });
    expect(asked.map(({ path, ids }) => [path, ids.length])).toEqual([1000, 1000, 500].map((n) => [`/dlq/${what}`, n]));
    expect(asked.flatMap(({ ids }) => ids)).toEqual(many.map(({ id }) => id));
  });

  it("tell how far they came where the agent refuses", async () => {
    await stored(letters(2500));
    await agentThatCounts(2);
    expect(await run("purge --all")).toMatchObject({
      code: 1,
      err: expect.stringMatching(
        /^2000 of 2000 dead letters deleted\nerror: the running agent refused: the disk is full/,
      ),
    });
  });
});
