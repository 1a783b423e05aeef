import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { loadSample, SMALL } from "../../test/config/sample-stages.ts";
import { ConfigError, describeMistake } from "../errors.ts";

const VALID = `state_dir = "./s"
${SMALL}
[transforms.keep]
type = "filter"
inputs = ["app"]
condition = 'level == "error"'

[sinks.web]
type = "http"
inputs = ["keep"]
url = "https://me:hunter2@example.org/\${PATH_PART:-in}"
token = "hunter2"
headers = { a = "b" }
retry.initial_ms = 5

[mpsc_channels.components.web]
overflow = "error"
[mpsc_channels.task_readiness.event_channel]
buffer_size = 100
[event_systems.task_readiness.metadata.event_channel]
backoff = { initial_ms = 1, jitter = 0.5 }
`;

/** Loads; anything but a plan or mistakes in one readable line each fails the test. */
async function loadOrMistakes(bytes: Uint8Array, options: { sets?: string[]; key?: string } = {}): Promise<void> {
  try {
    const loaded = await loadSample({ "a.toml": bytes }, { configs: ["a.toml"], needs: "file", ...options });
    expect(loaded.plan.stateDir).toBeTypeOf("string");
    if (options.key !== undefined) loaded.explain(options.key);
  } catch (thrown) {
    if (!(thrown instanceof ConfigError)) throw thrown;
    expect(thrown.mistakes.length).toBeGreaterThan(0);
    for (const mistake of thrown.mistakes) {
      const line = describeMistake(mistake);
      expect(line).not.toMatch(/undefined|\[object|node:internal|hunter2/);
      expect(mistake.message).not.toBe("");
    }
  }
}

/** One careless edit, at a place given as a fraction of the file. */
const edit = fc.record({
  at: fc.double({ min: 0, max: 1, noNaN: true, maxExcluded: true }),
  length: fc.nat(12),
  insert: fc.oneof(
    fc.string({ maxLength: 4 }),
    fc.constantFrom(
      '"',
      "'",
      "[",
      "]",
      "{",
      "}",
      "=",
      "\n",
      ".",
      "${",
      "}",
      "\\",
      "#",
      "[[a]]\n",
      "1e999",
      "-0",
      "nan",
    ),
    fc.constantFrom("__proto__", "constructor", "inputs", "type", "0", "1979-05-27", "true", "[]", "{}"),
  ),
  line: fc.boolean(),
});

function mutate(text: string, edits: readonly { at: number; length: number; insert: string; line: boolean }[]): string {
  let edited = text;
  for (const { at, length, insert, line } of edits) {
    const place = Math.floor(at * edited.length);
    if (line) {
      const lines = edited.split("\n");
      const row = Math.floor(at * lines.length);
      lines.splice(row, length % 2, ...(length % 3 === 0 ? [insert] : [lines[(row * 7) % lines.length]!]));
      edited = lines.join("\n");
    } else edited = edited.slice(0, place) + insert + edited.slice(place + length);
  }
  return edited;
}

describe("loadPlan", () => {
  it("makes of any bytes a plan or mistakes", async () => {
    const bytes = fc.oneof(fc.uint8Array({ maxLength: 200 }), fc.string({ maxLength: 200 }).map(Buffer.from));
    await fc.assert(
      fc.asyncProperty(bytes, (content) => loadOrMistakes(content)),
      { numRuns: 150 },
    );
  });

  it("makes of any careless edit of a valid file a plan or mistakes, and shows no secret", async () => {
    await loadOrMistakes(Buffer.from(VALID), { key: "sinks" });
    const edits = fc.array(edit, { minLength: 1, maxLength: 3 });
    await fc.assert(
      fc.asyncProperty(edits, (all) => {
        const edited = mutate(VALID, all);
        // An edit that moves the secret out of its field makes it a plain text like any other.
        const isStillSecret = /^token = "hunter2"$/m.test(edited) && /^url = "https:\/\/me:hunter2@/m.test(edited);
        return loadOrMistakes(Buffer.from(isStillSecret ? edited : edited.replaceAll("hunter2", "plain")));
      }),
      { numRuns: 300 },
    );
  });

  it("makes of any --set and any asked key a plan or mistakes", async () => {
    const part = fc.constantFrom(
      "api",
      "sinks",
      "web",
      "mpsc_channels",
      "__proto__",
      "",
      '"a"',
      "enabled",
      "0",
      "x=",
      "components",
    );
    const key = fc.oneof(
      fc.string({ maxLength: 20 }),
      fc.array(part, { minLength: 1, maxLength: 4 }).map((all) => all.join(".")),
    );
    const set = fc
      .tuple(key, fc.oneof(fc.string({ maxLength: 10 }), fc.constantFrom("1", "{", "[]", "{a={}}", '"""', "true")))
      .map((both) => both.join("="));
    await fc.assert(
      fc.asyncProperty(fc.array(set, { maxLength: 2 }), key, (sets, asked) =>
        loadOrMistakes(Buffer.from(VALID), { sets, key: asked }),
      ),
      { numRuns: 150 },
    );
  });
});
