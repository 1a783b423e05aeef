import { describe, expect, it } from "vitest";
import { z } from "zod";
import { natsFields, placesOf, serverOf } from "./options.ts";

const mistakesOf = (servers: unknown) =>
  z
    .strictObject(natsFields)
    .safeParse({ servers })
    .error?.issues.map(({ path, message }) => `${path.join(".")}: ${message}`);

describe("servers of NATS", () => {
  it("takes a server apart into address, user info and whether it is TLS", () => {
    expect(serverOf("tls://alice:p%40ss@nats:4222")).toEqual({
      address: "nats:4222",
      host: "nats",
      isTls: true,
      userInfo: "alice:p%40ss",
    });
    expect(serverOf("10.0.0.7")).toMatchObject({ address: "10.0.0.7", host: "10.0.0.7", isTls: false });
    expect(serverOf("nats://[::1]:4222")).toMatchObject({ address: "[::1]:4222", host: "::1", userInfo: undefined });
    // The last @ ends the user info, also where the password has one.
    expect(serverOf("nats://alice:p@ss@nats:4222")).toMatchObject({ address: "nats:4222", userInfo: "alice:p@ss" });
  });

  it("names places without who we are there", () => {
    expect(placesOf(["tls://alice:s3cret@one:4222", "nats://two"])).toBe("one:4222,two");
  });

  it("refuses user info without a scheme, where nothing would mask it, and does not show it", () => {
    const mistakes = mistakesOf(["nats://one", "alice:s3cret@two:4222"]);
    expect(mistakes).toEqual([expect.stringContaining("(number 2)")]);
    expect(String(mistakes)).not.toContain("s3cret");
  });

  it("refuses what is no address", () => {
    expect(mistakesOf(["http://one:4222"])).toEqual([expect.stringContaining("servers.0: is no NATS address")]);
    expect(mistakesOf(["nats://one", "tls://[::1]:4222", "127.0.0.1:4222"])).toBeUndefined();
  });
});
