import { describe, expect, it } from "vitest";
import { describeFailure, isClosed, isMove, isRefusal } from "./failure.ts";

/** Errors in the shapes that the client gives them. */
const failed = (message: string, facts: object = {}, cause?: unknown) =>
  Object.assign(new Error(message, { cause }), { code: "PLT_KFK_NETWORK" }, facts);
const several = (...errors: unknown[]) =>
  Object.assign(new AggregateError(errors, "it failed"), { code: "PLT_KFK_MULTIPLE" });
const answer = (apiId: string) => failed(`the broker said ${apiId}`, { code: "PLT_KFK_PROTOCOL", apiId });
const connecting = (place: string, cause: unknown) => failed(`Connection to ${place} failed.`, {}, cause);

const refused = connecting(
  "one:9092",
  failed(
    "SASL authentication failed.",
    { code: "PLT_KFK_AUTHENTICATION" },
    several(failed("it failed", { apiId: "SASL_AUTHENTICATION_FAILED", serverErrorMessage: "invalid credentials" })),
  ),
);
const expired = connecting("two:9092", failed("certificate has expired", { code: "CERT_HAS_EXPIRED" }));
const down = connecting("three:9092", failed("connect ECONNREFUSED", { code: "ECONNREFUSED" }));

describe("failures of Kafka's client", () => {
  it("are told by what the broker answered last, else by what went wrong with each broker", () => {
    expect(describeFailure(several(down, answer("A"), several(answer("B"))))).toBe("the broker said B (B)");
    expect(describeFailure(several(down, expired, down))).toBe(
      "no connection to three:9092: connect ECONNREFUSED; two:9092: certificate has expired (CERT_HAS_EXPIRED); the server needs a new one",
    );
    expect(describeFailure(refused)).toBe(
      "no connection to one:9092: the broker refuses our login: invalid credentials",
    );
    expect(describeFailure(failed("Connection to one:9092 timed out."))).toBe(
      "no connection to one:9092: it timed out",
    );
    expect(describeFailure(new Error("odd"))).toBe("odd");
  });

  it("are refusals where a login or a certificate is not taken", () => {
    expect([refused, several(down, expired)].map(isRefusal)).toEqual([true, true]);
    expect([down, answer("NOT_LEADER_OR_FOLLOWER"), new Error("odd")].map(isRefusal)).toEqual([false, false, false]);
  });

  it("are moves where a leader is away or another one, and nothing else is amiss", () => {
    const unknownNode = failed("Cannot find broker with node id 1", { code: "PLT_KFK_USER" });
    expect([down, unknownNode, several(answer("NOT_LEADER_OR_FOLLOWER"))].map(isMove)).toEqual([true, true, true]);
    const mixed = several(answer("NOT_LEADER_OR_FOLLOWER"), answer("TOPIC_AUTHORIZATION_FAILED"));
    expect([refused, expired, mixed, new Error("odd")].map(isMove)).toEqual([false, false, false, false]);
  });

  it("tells a connection that was closed without a word from one that was never made", () => {
    const closed = failed("Connection closed");
    expect([closed, several(closed, closed), several(closed, down), down].map(isClosed)).toEqual([
      true,
      true,
      false,
      false,
    ]);
  });
});
