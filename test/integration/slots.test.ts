import { execFileSync, spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import type { CliIo } from "../../src/cli/io.ts";
import { main } from "../../src/cli/main.ts";
import { Batch, Messages } from "../../src/record/index.ts";
import { parquetSink } from "../../src/sinks/parquet.ts";
import { sinkContext } from "../../src/testing/sink-context.ts";
import { checkTimeSlots, loadKernelCalls } from "../../src/timeslots/index.ts";

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "tailrace-slots-"));
});
afterEach(() => rmSync(folder, { recursive: true }));

async function run(...args: string[]): Promise<{ code: number; out: string; err: string }> {
  const [out, err]: [string[], string[]] = [[], []];
  const io: CliIo = {
    stdout: { write: (text) => out.push(text) },
    stderr: { write: (text) => err.push(text) },
    env: {},
    cwd: folder,
    exitCode: 0,
  };
  return { code: await main(args, io), out: out.join(""), err: err.join("") };
}

const START_MS = Date.UTC(2026, 10, 21, 10);

function timeSlot(index: number, over: object): { [field: string]: unknown } {
  const start = new Date(START_MS + index).toISOString().slice(0, 23);
  const zeros = { migrations: 0, page_faults: 1, block_bytes: 0, net_sent_bytes: 10, net_received_bytes: 0 };
  return {
    slot_start: `${start}000000Z`,
    slot_ns: 1_000_000,
    comm: "spin",
    cgroup: "/unit",
    runqueue_wait_ns: 0,
    context_switches: 1,
    syscalls: 3,
    ...zeros,
    cycles: null,
    instructions: null,
    cache_misses: null,
    complete: true,
    lost_events: 0,
    ...over,
  };
}

/** Two seconds of three processes, one of them with a name that means harm. */
async function writeSlots(path: string, options: object = {}): Promise<void> {
  const events = Array.from({ length: 2000 }, (_, index) => {
    const loss = index === 0 ? { complete: false, lost_events: 9 } : {};
    const wait = index === 701 ? 3_456_000 : 0;
    return [
      timeSlot(index, { pid: 1, cpu_ns: 1_000_000, ...loss }),
      timeSlot(index, { pid: 2, comm: "</script><b>", cpu_ns: 100_000, runqueue_wait_ns: wait, ...loss }),
      ...(index % 100 === 0 ? [timeSlot(index, { pid: 3, comm: "odd", cpu_ns: 500, ...loss })] : []),
    ];
  }).flat();
  const sink = await parquetSink.open(parquetSink.options.parse({ path, ...options }), sinkContext());
  const messages = events.map((fields, number) => ({ number, body: Buffer.alloc(0), fields }));
  const origin = { source: "slots", key: "k", kind: "fleeting", recordIdPrefix: "p", file: undefined } as const;
  const batch = Batch.ofMessages(
    origin,
    new Messages(messages, { readAtMs: 0, host: "h" }),
    { start: 0, end: events.length },
    1,
  );
  await sink.write(batch, { signal: new AbortController().signal });
  await sink.prepare!();
  await sink.committed!();
  await sink[Symbol.asyncDispose]();
}

describe("tailrace slots report", () => {
  it("writes one page beside the file, with its numbers, that fetches nothing and believes no name", async () => {
    await writeSlots(join(folder, "slots.parquet"), { row_group_records: 700, compression: "zstd" });
    const { code, out, err } = await run("slots", "report", "slots.parquet");
    expect({ code, out }).toEqual({ code: 0, out: "" });
    expect(err).toContain(`written: ${join(folder, "slots.html")}`);
    const page = readFileSync(join(folder, "slots.html"), "utf8");
    expect(page).not.toMatch(/\b(src|href)=|@import|url\(|https?:/);
    expect(page).not.toMatch(/<\/script><b>/);
    expect(page).toContain('&lt;/script&gt;&lt;b&gt; <span class="dim">2</span>');
    expect(page).toContain("2026-11-21 10:00:00.000 to 2026-11-21 10:00:02.000 UTC · 2.000 s in slots of 1 ms");
    expect(page).toContain("1 of 2,000 slots (0.05 %) are incomplete, 9 events of the kernel were lost");
    // The worst slot, and who ran meanwhile.
    expect(page).toContain(
      '<td class="n">3.456</td><td class="n">0.100</td><td>spin <span class="dim">1</span> <b>1.000</b>',
    );
    const data = JSON.parse(/<script type="application\/json" id="data">(.*?)<\/script>/s.exec(page)![1]!);
    expect(data.bands.map((band: { name: string }) => band.name)).toEqual(["spin", "</script><b>", "odd"]);
    expect([data.binMs, data.bins]).toEqual([4, 500]);
    expect(data.bands[0].cpu).toEqual(Array(500).fill(1));
    expect(data.waiting).toHaveLength(1);
    // In the table: CPU seconds, percent, waited, worst, noise, longest run.
    const spin = /<tr><td>spin .*?<\/tr>/.exec(page)![0];
    expect([...spin.matchAll(/data-v="([^"]*)"/g)].slice(0, 6).map(([, value]) => Number(value))).toEqual([
      2,
      100,
      0,
      0,
      (3.456 * 1) / 1.1,
      2000,
    ]);
  });

  it("says what is wrong with a file, exit 2, and writes nothing", async () => {
    writeFileSync(join(folder, "text.parquet"), "no parquet at all");
    const sink = await parquetSink.open(
      parquetSink.options.parse({ path: join(folder, "logs.parquet") }),
      sinkContext(),
    );
    const origin = { source: "s", key: "k", kind: "fleeting", recordIdPrefix: "p", file: undefined } as const;
    const messages = new Messages([{ number: 0, body: Buffer.alloc(0), fields: { a: 1 } }], { readAtMs: 0, host: "h" });
    await sink.write(Batch.ofMessages(origin, messages, { start: 0, end: 1 }, 1), {
      signal: new AbortController().signal,
    });
    await sink.prepare!();
    await sink.committed!();
    await sink[Symbol.asyncDispose]();
    for (const [file, words] of [
      ["none.parquet", /^error: none\.parquet cannot be read: ENOENT/],
      ["text.parquet", /^error: text\.parquet is no Parquet file that can be read/],
      ["logs.parquet", /^error: logs\.parquet holds no time slots: the columns slot_start, .* are not in it\n$/],
    ] as const) {
      const { code, err } = await run("slots", "report", file);
      expect(err).toMatch(words);
      expect(code).toBe(2);
    }
    await writeSlots(join(folder, "slots.parquet"));
    expect(await run("slots", "report", "slots.parquet", "-o", "no/where.html")).toMatchObject({
      code: 2,
      err: expect.stringContaining("no/where.html cannot be written: ENOENT"),
    });
    expect(existsSync(join(folder, "slots.html"))).toBe(false);
  });
});

describe("tailrace validate", () => {
  it("says what of time slots is lost with an open Parquet file", async () => {
    const config = `[sources.slots]\ntype = "timeslots"\n[sinks.pq]\ntype = "parquet"\ninputs = ["slots"]\npath = "slots.parquet"\n`;
    writeFileSync(join(folder, "tailrace.toml"), config);
    const { code, out } = await run("validate");
    expect(code).toBe(0);
    expect(out).toContain("slots -> pq: at most once\n");
    expect(out).toContain("at SIGKILL what an open Parquet file held of it is lost, as far as no commit covers it yet");
  });
});

const canLook = await checkTimeSlots(loadKernelCalls).then(
  () => true,
  (error: Error) => {
    console.warn(`SKIPPED: ${error.message}`);
    return false;
  },
);

describe.skipIf(!canLook)("tailrace slots", () => {
  it("prints every slot as NDJSON, and ends after as long as it is told", async () => {
    const { code, out, err } = await run("slots", "--json", "--seconds", "0.6");
    expect({ code, err }).toEqual({ code: 0, err: "" });
    const rows = out
      .trim()
      .split("\n")
      .map((line) => JSON.parse(line) as { [field: string]: unknown });
    expect(rows.length).toBeGreaterThan(10);
    expect(rows.every((row) => typeof row["slot_start"] === "string" && row["slot_ns"] === 1_000_000)).toBe(true);
    // This process looks, so it is seen.
    expect(rows.some((row) => row["pid"] === process.pid && Number(row["cpu_ns"]) > 0)).toBe(true);
  });

  it("prints a line a second for each of the first processes where there is no terminal", async () => {
    const { code, out } = await run("slots", "--seconds", "2.5", "--slot-ms", "10", "--sort", "noise");
    expect(code).toBe(0);
    expect(out).toMatch(/^\d\d:\d\d:\d\d .+\[\d+\] cpu=[\d.]+% wait=[\d.]+ms\/s worst=[\d.]+ms noise=/m);
    expect(out).not.toContain("\u001b");
  });
});

const hasTmux = spawnSync("tmux", ["-V"]).status === 0;
if (!hasTmux && process.env["CI"] === "true") throw new Error("CI must have tmux");

describe.skipIf(!canLook || !hasTmux || !existsSync("dist"))("tailrace slots, on a terminal", () => {
  const socket = `tailrace-${process.pid}`;
  const tmux = (...args: string[]) => spawnSync("tmux", ["-L", socket, ...args], { encoding: "utf8" }).stdout;
  afterEach(() => void tmux("kill-server"));

  async function until(words: RegExp): Promise<string> {
    const endAt = Date.now() + 60_000;
    for (;;) {
      const screen = tmux("capture-pane", "-p");
      if (words.test(screen)) return screen;
      if (Date.now() > endAt) throw new Error(`waited in vain for ${words}:\n${screen}`);
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
  }

  it.each([
    ["q", "q"],
    ["Ctrl-C", "C-c"],
  ])("paints processes and the worst slots, sorts by a key, and gives the terminal back at %s", async (_name, key) => {
    const command = `echo BEFORE; ${process.execPath} bin/tailrace.js slots; echo "ENDED $?"; stty -a | grep -o -- '-\\?icanon'; sleep 60`;
    tmux("new-session", "-d", "-x", "120", "-y", "30", command);
    const screen = await until(/^\S+ +\d+ +\d+\.\d .*WORST SLOTS/ms);
    expect(screen).toContain(">CPU %");
    expect(screen).not.toContain("BEFORE");
    tmux("send-keys", "w");
    await until(/>WAIT ms\/s/);
    tmux("send-keys", key);
    const after = await until(/ENDED 0/);
    // What was there before is there again, and keys are lines again.
    expect(after).toContain("BEFORE");
    expect(after).not.toContain("WORST SLOTS");
    await until(/^icanon/m);
  });
});

describe("tailrace slots, without the privilege", () => {
  const isRoot = process.getuid?.() === 0;
  it.skipIf(!isRoot || !existsSync("dist"))("says in a sentence what is missing, exit 2", () => {
    let answer = { status: 0, stderr: "" };
    try {
      const args = ["--reuid=65534", "--regid=65534", "--clear-groups", process.execPath, "bin/tailrace.js", "slots"];
      execFileSync("setpriv", args, { stdio: "pipe", encoding: "utf8" });
    } catch (error) {
      answer = error as typeof answer;
    }
    expect(answer.status).toBe(2);
    expect(answer.stderr).toMatch(/^error: time slots .*\n$/);
  });
});
