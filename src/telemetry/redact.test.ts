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

  it("hides parameters with a secret's name, in a query or in a list", () => {
    expect(maskUrls("postgres://h/d?sslmode=require&password=x#y")).toBe("postgres://h/d?sslmode=require&password=***");
    expect(maskUrls("https://h/in?api_key=a;b&v=1")).toBe("https://h/in?api_key=***&v=1");
    expect(maskUrls("https://h/in?sig=a%2Fb&X-Amz-Signature=c")).toBe("https://h/in?sig=***&X-Amz-Signature=***");
    expect(maskUrls("postgres://h/d?pass%77ord=x&ssl%50assword=y")).toBe(
      "postgres://h/d?pass%77ord=***&ssl%50assword=***",
    );
    expect(maskUrls("host=db password=x user=me")).toBe("host=db password=*** user=me");
  });

  it("ends a parameter where a quotation ends, and not at a quote within it", () => {
    expect(maskUrls('is "postgres://h/d?password=a"b"; give another')).toBe(
      'is "postgres://h/d?password=***"; give another',
    );
    const masked = maskUrls('"https://h/?token=x"');
    expect([masked, maskUrls(masked)]).toEqual(['"https://h/?token=***"', '"https://h/?token=***"']);
  });

  it("leaves other texts alone", () => {
    const plain = ["http://host:80/@me", "a@b", "https://h/p?q=a@b", "unix:/x@y", "scheme://"];
    for (const text of [...plain, "?tokens=3&assignment=x", 'write token = "x"', "sig%=%"])
      expect(maskUrls(text)).toBe(text);
  });

  it("never lets a password through", () => {
    const password = fc.stringMatching(/^[A-Za-z0-9!$%&*+,;=:._~-]{6,20}$/);
    fc.assert(
      fc.property(password, (secret) => {
        expect(maskUrls(`cannot reach postgres://user:${secret}@host/db`)).toBe("cannot reach postgres://***@host/db");
        const query = `?a=1&password=${secret.replaceAll("&", "+")}`;
        expect(maskUrls(`cannot reach "postgres://host/db${query}": no`)).toBe(
          'cannot reach "postgres://host/db?a=1&password=***": no',
        );
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
