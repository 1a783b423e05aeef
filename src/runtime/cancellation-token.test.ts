import { getEventListeners } from "node:events";
import { describe, expect, it } from "vitest";
import { CancellationToken } from "./cancellation-token.ts";

describe("CancellationToken", () => {
  it("cancels all that descend from it, with its reason", () => {
    const root = new CancellationToken();
    const child = root.child();
    const grandchild = child.child();
    const order: string[] = [];
    for (const [name, token] of Object.entries({ root, child, grandchild })) {
      token.signal.addEventListener("abort", () => order.push(name));
    }
    const reason = new Error("stop");
    root.cancel(reason);
    root.cancel(new Error("again"));
    expect(order).toEqual(["root", "child", "grandchild"]);
    expect(grandchild.signal.reason).toBe(reason);
    expect(grandchild.isCancelled).toBe(true);
    expect(root.children).toBe(0);
  });

  it("leaves parent and siblings alone when a child is cancelled", () => {
    const root = new CancellationToken();
    const [one, other] = [root.child(), root.child()];
    one.cancel();
    expect([root, one, other].map((token) => token.isCancelled)).toEqual([false, true, false]);
    expect(one.signal.reason.name).toBe("AbortError");
    expect(root.children).toBe(1);
  });

  it("is born cancelled below a cancelled token", () => {
    const root = new CancellationToken();
    root.cancel("stop");
    expect(root.child().signal).toMatchObject({ aborted: true, reason: "stop" });
  });

  it("holds no child that was disposed, and puts no listener on any signal", () => {
    const root = new CancellationToken();
    let kept: CancellationToken | undefined;
    {
      using child = root.child();
      kept = child;
      expect(root.children).toBe(1);
    }
    expect(root.children).toBe(0);
    for (let round = 0; round < 1000; round += 1) root.child()[Symbol.dispose]();
    expect(getEventListeners(root.signal, "abort")).toEqual([]);
    root.cancel();
    expect(kept.isCancelled).toBe(false);
  });

  it("cancels every child, also when one of them makes or disposes others meanwhile", () => {
    const root = new CancellationToken();
    const [one, other, gone] = [root.child(), root.child(), root.child()];
    one.signal.addEventListener("abort", () => gone[Symbol.dispose]());
    let late: CancellationToken | undefined;
    other.signal.addEventListener("abort", () => {
      late = root.child();
    });
    root.cancel();
    expect([one, other, late].map((token) => token?.isCancelled)).toEqual([true, true, true]);
    expect(gone.isCancelled).toBe(false);
  });

  it("follows a signal of somebody else until it is disposed", () => {
    const outside = new AbortController();
    const followed = CancellationToken.following(outside.signal);
    const disposed = CancellationToken.following(outside.signal);
    disposed[Symbol.dispose]();
    expect(getEventListeners(outside.signal, "abort")).toHaveLength(1);
    outside.abort("stop");
    expect(followed.signal.reason).toBe("stop");
    expect(disposed.isCancelled).toBe(false);
    expect(CancellationToken.following(outside.signal).isCancelled).toBe(true);
  });
});
