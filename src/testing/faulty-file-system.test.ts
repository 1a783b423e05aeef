import { describe, expect, it } from "vitest";
import { pathFromText } from "../runtime/byte-path.ts";
import { FaultyFileSystem, SimulatedCrash } from "./faulty-file-system.ts";
import { SimFileSystem } from "./sim-file-system.ts";

const path = pathFromText("/a");

describe("FaultyFileSystem", () => {
  it("fails the N-th call of a kind and lets the others pass", async () => {
    const files = new FaultyFileSystem(new SimFileSystem());
    files.fail({ call: "write", after: 1, fails: "ENOSPC" });
    const handle = await files.open(path, "create");
    expect(await handle.write(Buffer.from("ab"), 0, 2, 0)).toBe(2);
    await expect(handle.writev([Buffer.from("cd")], 2)).rejects.toMatchObject({ code: "ENOSPC" });
    expect(await handle.write(Buffer.from("ef"), 0, 2, 2)).toBe(2);
    expect([files.calls("write"), files.calls()]).toEqual([3, 4]);
  });

  it("moves fewer bytes than asked for", async () => {
    const files = new FaultyFileSystem(new SimFileSystem());
    files.fail({ call: "write", times: 2, fails: { atMostBytes: 1 } });
    files.fail({ call: "read", path, fails: { atMostBytes: 2 } });
    const handle = await files.open(path, "create");
    expect(await handle.write(Buffer.from("abc"), 0, 3, 0)).toBe(1);
    expect(await handle.writev([Buffer.from("bc"), Buffer.from("d")], 1)).toBe(1);
    expect(await handle.writev([Buffer.from("cd")], 2)).toBe(2);
    expect(await handle.read(Buffer.alloc(9), 0, 9, 0)).toBe(2);
    expect((await handle.stat()).size).toBe(4);
  });

  it.each([
    ["before", false],
    ["after", true],
  ] as const)("ends the process %s the effect of a call, and then answers nothing", async (when, happened) => {
    const inner = new SimFileSystem();
    const files = new FaultyFileSystem(inner);
    files.crashAt(0, when);
    await expect(files.open(path, "create")).rejects.toBeInstanceOf(SimulatedCrash);
    expect(inner.statSync(path) !== undefined).toBe(happened);
    expect(() => files.statSync(path)).toThrow(SimulatedCrash);
    await files.end();
    expect([files.openHandles, inner.openCount]).toEqual([0, 0]);
  });
});
