import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { ERROR_CODES } from "../../src/errors.ts";

const page = readFileSync(new URL("../../docs/reference/errors.md", import.meta.url), "utf8");

describe("errors", () => {
  it("are the same in the table and on the reference page", () => {
    const rows = Object.fromEntries(
      [...page.matchAll(/^\| `(TR_[A-Z_]+)` \| (.+) \|$/gm)].map((match) => [match[1], match[2]]),
    );
    expect(rows).toEqual(ERROR_CODES);
  });
});
