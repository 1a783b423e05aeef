import { describe, expect, it } from "vitest";
import { main } from "./main.ts";

describe("tail", () => {
  it.each([
    [["tail", ""], "GLOB: is empty; give the path of a file, or a pattern"],
    [["tail", "a.log", ""], "GLOB: is empty; give the path of a file, or a pattern"],
    [["tail", "a.log", "--to", ""], '--to: "" is no target; give -, a path, '],
    [["tail", "a.log", "--to", "tcp://host"], '--to: "tcp://host" is no target; give -, a path, '],
    [["tail", "a.log", "--to", "http://"], '--to: is "http://"; this is no valid URL'],
  ])("tells what is wrong with %j once, in terms of the command line: exit 2", async (args, words) => {
    const err: string[] = [];
    const stderr = { write: (text: string) => err.push(text) };
    const io = { stdout: stderr, stderr, env: {}, cwd: "/nowhere", exitCode: 0 };
    expect(await main(args, io)).toBe(2);
    expect(err).toEqual([expect.stringContaining(`error: command line: ${words}`)]);
  });
});
