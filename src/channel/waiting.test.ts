import { describe, expect, it } from "vitest";
import { WaitingLine } from "./waiting.ts";
import { WaitingReceiver } from "./waiting-receivers.ts";

describe("WaitingLine", () => {
  const waiter = () => new WaitingReceiver<number>("value", () => {});
  const drain = (line: WaitingLine<WaitingReceiver<number>>) => {
    const order = [];
    for (let first = line.first; first !== undefined; first = line.first) {
      order.push(first);
      line.remove(first);
    }
    return order;
  };

  it("keeps its order when one leaves from the front, the middle or the end", () => {
    for (const leaver of [0, 1, 2]) {
      const line = new WaitingLine<WaitingReceiver<number>>();
      const all = [waiter(), waiter(), waiter()];
      for (const one of all) line.append(one);
      expect(line.remove(all[leaver]!)).toBe(true);
      expect(line.remove(all[leaver]!)).toBe(false);
      const late = waiter();
      line.append(late);
      expect(drain(line)).toEqual([...all.filter((_, index) => index !== leaver), late]);
      expect(line.first).toBeUndefined();
    }
  });
});
