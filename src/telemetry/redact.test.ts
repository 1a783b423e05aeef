import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { StageError, TailraceError } from "../errors.ts";
import { maskUrls, redact } from "./redact.ts";

describe("maskUrls", () => {
  it("hides the user info of every URL in a text", () => {
    expect(maskUrls("postgres://me:pw@db:5432/x and nats://tok@h")).toBe("postgres://***@db:5432/x and nats://***@h");
    expect(maskUrls('"http://a:b@c@host/p"')).toBe('"http://***@host/p"');
    expect(maskUrls("postgres://me:p/w?d#@db/x")).toBe("postgres://***@db/x");
  });

  it("leaves other texts alone", () => {
    for (const text of ["http://host:80/@me", "a@b", "https://h/p?q=a@b", "unix:/x@y", "scheme://"])
      expect(maskUrls(text)).toBe(text);
  });

  it("never lets a password through", () => {
    const password = fc.stringMatching(/^[A-Za-z0-9!$%&*+,;=:._~-]{6,20}$/);
    fc.assert(
      fc.property(password, (secret) => {
        expect(maskUrls(`cannot reach postgres://user:${secret}@host/db`)).toBe("cannot reach postgres://***@host/db");
      }),
    );
  });
});

describe("redact", () => {
  it("hides fields with a secret's name at any depth", () => {
    expect(redact({ a: [{ api_token: "x", Authorization: "y", user: "me" }], tokens: 3 })).toEqual({
      a: [{ api_token: "***", Authorization: "***", user: "me" }],
      tokens: 3,
    });
  });

  it("shows where an error came from only if nobody foresaw it", () => {
    const bug = new TypeError("x is undefined");
    expect(redact(bug)).toHaveProperty("stack");
    expect(redact(new TailraceError("TR_INTERNAL", "a bug"))).toHaveProperty("stack");
    const failed = redact(new StageError("TR_STAGE_FAILED", "out", "it threw", { cause: bug }));
    expect(failed).not.toHaveProperty("stack");
    expect(failed).toHaveProperty("cause.stack");
    const system = Object.assign(new Error("ENOSPC: no space left"), { code: "ENOSPC", syscall: "write" });
    expect(redact(system)).toEqual({ name: "Error", code: "ENOSPC", message: "ENOSPC: no space left" });
  });

  it("shows errors with code and cause, and ends on a structure that contains itself", () => {
    const cause = Object.assign(new Error("to http://a:b@c/"), { code: "ECONNREFUSED" });
    expect(redact(new TypeError("no", { cause }))).toMatchObject({
      name: "TypeError",
      message: "no",
      cause: { code: "ECONNREFUSED", message: "to http://***@c/" },
    });
    const loop: { self?: unknown } = {};
    loop.self = loop;
    expect(JSON.stringify(redact(loop))).toContain("[...]");
  });
});
