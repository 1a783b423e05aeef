import type { Receiver, Sender } from "../../channel/index.ts";
import type { StageChannels } from "../../stage/index.ts";

/**
 * Notifications of queues on their way to who reads them: the one channel `orchestration/event_listeners` of a process,
 * shared by all its queues.
 *
 * A notification says "look", and the queue's table says the rest. So of one queue at most one notice waits, before the
 * channel or in it, however many come in a burst; and the socket they come from is never held up: a connection that does not
 * take its notifications would fail the commits of others once the server's queue of them is full (PostgreSQL 15, NOTIFY).
 */
export class QueueNotices {
  static readonly #shared = new WeakMap<StageChannels, { readonly notices: QueueNotices; users: number }>();

  readonly #sender: Sender<QueueNotice>;
  readonly #receiver: Receiver<QueueNotice>;
  readonly #reading: Promise<void>;

  private constructor(channels: StageChannels) {
    const { sender, receiver } = channels.create<QueueNotice>("orchestration.event_listeners", {
      why: "notifications of queues, on their way to who reads them",
      coalesce: { keyOf: (notice) => notice, merge: (waiting) => waiting },
      // A policy that drops notices: the next poll finds what they told of.
      onDrop: (notice) => notice.taken(),
    });
    this.#sender = sender;
    this.#receiver = receiver;
    this.#reading = this.#read();
  }

  /** The notices of one queue, from now on; to be released once. `wake` is called for each that has come through. */
  static listen(channels: StageChannels, wake: () => void): QueueNotice {
    let entry = QueueNotices.#shared.get(channels);
    if (entry === undefined) {
      entry = { notices: new QueueNotices(channels), users: 0 };
      QueueNotices.#shared.set(channels, entry);
    }
    entry.users += 1;
    const { notices } = entry;
    return new QueueNotice(notices.#sender, wake, async () => {
      entry.users -= 1;
      if (entry.users > 0) return;
      // A channel whose ends are closed can be made again.
      QueueNotices.#shared.delete(channels);
      notices.#sender.close();
      notices.#receiver.close();
      await notices.#reading;
    });
  }

  async #read(): Promise<void> {
    for await (const notice of this.#receiver) notice.deliver();
  }
}

export class QueueNotice {
  /** One of this queue waits: a further notification says nothing new. */
  #isWaiting = false;
  #isReleased = false;
  readonly #sender: Sender<QueueNotice>;
  readonly #wake: () => void;
  readonly #release: () => Promise<void>;

  constructor(sender: Sender<QueueNotice>, wake: () => void, release: () => Promise<void>) {
    this.#sender = sender;
    this.#wake = wake;
    this.#release = release;
  }

  /** A notification came: returns at once, whatever room there is. */
  notify(): void {
    if (this.#isWaiting || this.#isReleased) return;
    this.#isWaiting = true;
    // Refused (policy `error`) or closed: the next poll finds what it told of.
    this.#sender.send(this).catch(() => this.taken());
  }

  taken(): void {
    this.#isWaiting = false;
  }

  /** Taken before it is acted upon: what comes from now on is about later inserts. */
  deliver(): void {
    this.taken();
    if (!this.#isReleased) this.#wake();
  }

  async release(): Promise<void> {
    if (this.#isReleased) return;
    this.#isReleased = true;
    await this.#release();
  }
}
