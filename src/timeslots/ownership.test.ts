import { describe, expect, it } from "vitest";
import { Ownership } from "./ownership.ts";

describe("Ownership", () => {
  it("releases in reverse order, each once", () => {
    const released: string[] = [];
    const owned = new Ownership();
    for (const name of ["a", "b", "c"]) owned.own(name, (thing) => void released.push(thing));
    expect(owned.isLive).toBe(true);
    owned.release();
    owned.release();
    expect(released).toEqual(["c", "b", "a"]);
    expect(owned.isLive).toBe(false);
  });

  it("releases the others too where one fails, and throws the first failure", () => {
    const released: string[] = [];
    const owned = new Ownership();
    owned.own("a", (thing) => void released.push(thing));
    owned.own("b", () => {
      throw new Error("b fails");
    });
    owned.own("c", () => {
      throw new Error("c fails");
    });
    expect(() => owned.release()).toThrow("c fails");
    expect(released).toEqual(["a"]);
  });

  it("takes back what was made before a making fails, and throws why it failed", () => {
    const released: string[] = [];
    const owned = new Ownership();
    owned.own("bad", () => {
      throw new Error("release fails");
    });
    expect(() =>
      owned.orRelease(() => {
        owned.own("a", (thing) => void released.push(thing));
        throw new Error("half-way");
      }),
    ).toThrow("half-way");
    expect(released).toEqual(["a"]);
    expect(owned.orRelease(() => 1)).toBe(1);
  });
});
