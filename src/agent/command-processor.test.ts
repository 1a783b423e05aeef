import { describe, expect, it } from "vitest";
import { type Command, type CommandAnswer, commandSchema } from "../api/commands.ts";
import { ChannelRegistry } from "../channel/index.ts";
import { ChannelClosedError, ChannelFullError } from "../errors.ts";
import { systemClock } from "../runtime/clock.ts";
import { CommandProcessor } from "./command-processor.ts";

const pause: Command = { command: "pause" };
const flush: Command = { command: "flush" };

function processor(capacity: number, carryOut: (command: Command) => Promise<CommandAnswer>) {
  const channels = new ChannelRegistry();
  const size = { bufferSize: capacity, bufferBytes: undefined, overflow: "block" as const, sendTimeoutMs: 0 };
  return { channels, commands: new CommandProcessor({ channels, clock: systemClock, size, carryOut }) };
}

describe("CommandProcessor", () => {
  it("carries out one command after the other, in the order in which they came, and answers each", async () => {
    const order: string[] = [];
    const { commands, channels } = processor(10, async ({ command }) => {
      order.push(`${command} begins`);
      await new Promise((resolve) => setTimeout(resolve, command === "pause" ? 5 : 0));
      order.push(`${command} ends`);
      return { message: command };
    });
    expect(channels.list().map(({ component, channel }) => [component, channel])).toEqual([
      ["orchestration", "command_processor"],
    ]);
    const answers = [commands.submit(pause), commands.submit(flush)];
    const running = commands.run();
    expect(await Promise.all(answers)).toEqual([{ message: "pause" }, { message: "flush" }]);
    expect(order).toEqual(["pause begins", "pause ends", "flush begins", "flush ends"]);
    commands.close();
    await running;
  });

  it("refuses at once when too many wait, and leaves the command with its owner", async () => {
    const { commands } = processor(2, async ({ command }) => ({ message: command }));
    const waiting = [commands.submit(pause), commands.submit(flush)];
    const refused: unknown = await commands.submit(pause).catch((error: unknown) => error);
    expect(refused).toBeInstanceOf(ChannelFullError);
    expect((refused as ChannelFullError).value).toBe(pause);
    void commands.run();
    expect(await Promise.all(waiting)).toHaveLength(2);
    commands.close();
  });

  it("hands a command's failure to who gave it, and goes on", async () => {
    const { commands } = processor(2, async ({ command }) => {
      if (command === "pause") throw new Error("not now");
      return { message: command };
    });
    void commands.run();
    await expect(commands.submit(pause)).rejects.toThrow("not now");
    expect(await commands.submit(flush)).toEqual({ message: "flush" });
    commands.close();
  });

  it("tells those that wait, and those that come later, when the agent stops", async () => {
    const { commands } = processor(2, async ({ command }) => ({ message: command }));
    const waiting = commands.submit(pause);
    commands.close();
    await expect(waiting).rejects.toBeInstanceOf(ChannelClosedError);
    await expect(commands.submit(pause)).rejects.toBeInstanceOf(ChannelClosedError);
  });

  it("takes no command that it does not know, and none with what it does not know", () => {
    expect(commandSchema.safeParse({ command: "self_destruct" }).success).toBe(false);
    expect(commandSchema.safeParse({ command: "pause", forever: true }).success).toBe(false);
    expect(commandSchema.safeParse({ command: "set_log_level", level: "loud" }).success).toBe(false);
    expect(commandSchema.safeParse({ command: "set_log_level", level: "debug" }).success).toBe(true);
  });
});
