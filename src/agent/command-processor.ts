import type { Command, CommandAnswer } from "../api/commands.ts";
import { type ChannelRegistry, type OneshotSender, oneshot, type Receiver, type Sender } from "../channel/index.ts";
import type { ChannelSize } from "../config/plan.ts";
import { ChannelClosedError, ChannelFullError, toError } from "../errors.ts";
import type { Clock } from "../runtime/clock.ts";

type Outcome = { readonly answer: CommandAnswer } | { readonly error: Error };

interface Order {
  readonly command: Command;
  readonly reply: OneshotSender<Outcome>;
}

/**
 * The control actor (design "Bounded MPSC Channels", `orchestration.command_processor`): one command after the other, each
 * answered through a oneshot, on a bounded channel. When that is full the caller is told at once, and keeps its command.
 */
export class CommandProcessor {
  readonly #sender: Sender<Order>;
  readonly #receiver: Receiver<Order>;
  readonly #carryOut: (command: Command) => Promise<CommandAnswer>;

  constructor(options: {
    readonly channels: ChannelRegistry;
    readonly clock: Clock;
    readonly size: ChannelSize;
    readonly carryOut: (command: Command) => Promise<CommandAnswer>;
  }) {
    this.#carryOut = options.carryOut;
    const { sender, receiver } = options.channels.create<Order>({
      component: "orchestration",
      channel: "command_processor",
      why: "commands to the agent, carried out one after the other",
      clock: options.clock,
      capacity: options.size.bufferSize,
      overflow: "block",
      onDrop: ({ reply }) => reply.close(),
    });
    this.#sender = sender;
    this.#receiver = receiver;
  }

  /**
   * Resolves once the command is carried out.
   * @throws ChannelFullError (`TR_CHANNEL_FULL`) at once if too many wait already, ChannelClosedError
   * (`TR_CHANNEL_CLOSED`) when the agent stops before it, and whatever the command itself failed with.
   */
  async submit(command: Command): Promise<CommandAnswer> {
    const { sender: reply, receiver } = oneshot<Outcome>();
    const outcome = this.#sender.trySend({ command, reply });
    if (outcome === "full") throw new ChannelFullError(command);
    if (outcome === "closed") throw new ChannelClosedError(command);
    const answered = await receiver.recv();
    if (answered === undefined) throw new ChannelClosedError(command);
    if ("error" in answered) throw answered.error;
    return answered.answer;
  }

  /** Carries commands out until `close`. */
  async run(): Promise<void> {
    for await (const { command, reply } of this.#receiver) {
      try {
        reply.send({ answer: await this.#carryOut(command) });
      } catch (error) {
        reply.send({ error: toError(error) });
      }
    }
  }

  /** Takes no more commands; those that wait are answered with ChannelClosedError. */
  close(): void {
    this.#sender.close();
    this.#receiver.close();
  }
}
