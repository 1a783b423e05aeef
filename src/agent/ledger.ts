import type { ChannelRegistry } from "../channel/index.ts";
import type { Change, Contributor, Json } from "../checkpoint/index.ts";
import { TAP } from "./event-publisher.ts";

/** What went through one channel, in records. */
export interface LedgerEdge {
  readonly component: string;
  readonly channel: string;
  /** Every record accepted or dropped; what was refused stays with its owner and counts nowhere. */
  readonly sent: number;
  readonly received: number;
  readonly dropped: number;
  readonly in_channel: number;
}

/** The name of the note that holds the ledger of the last run. */
export const LEDGER_NOTE = "ledger";

/** Every edge that carries records, at one instant. */
export function ledgerOf(channels: ChannelRegistry): LedgerEdge[] {
  return (
    channels
      .list()
      // What a tap shows is a copy: nothing of the pipeline went there.
      .filter(({ component, carriesRecords }) => carriesRecords && component !== TAP)
      .map(({ component, channel, counters }) => {
        const { sent, received, dropped, inChannel } = counters().records;
        return { component, channel, sent, received, dropped: dropped.policy + dropped.closed, in_channel: inChannel };
      })
  );
}

/** The edges at which sent is not received + dropped + in channel: records that nobody can account for. */
export function unbalancedEdges(edges: readonly LedgerEdge[]): LedgerEdge[] {
  return edges.filter((edge) => edge.sent !== edge.received + edge.dropped + edge.in_channel);
}

/** The ledger that a store holds; undefined where no run has left one. */
export function storedLedger(note: Json | undefined): LedgerEdge[] | undefined {
  if (typeof note !== "object" || note === null || !("edges" in note)) return undefined;
  return note.edges as unknown as LedgerEdge[];
}

/**
 * Puts the ledger of this run into each commit, so that `audit` can be asked after the end, whatever the end was. It is
 * the ledger of one instant, taken as the transaction begins; what moved while it was flushed is in the next one.
 */
export class LedgerKeeper implements Contributor {
  readonly #channels: ChannelRegistry;
  #stored = "";
  #taken = "";

  constructor(channels: ChannelRegistry) {
    this.#channels = channels;
  }

  take(): readonly Change[] {
    const edges = ledgerOf(this.#channels);
    this.#taken = JSON.stringify(edges);
    if (this.#taken === this.#stored) return [];
    return [{ table: "note", name: LEDGER_NOTE, value: { edges } as unknown as Json }];
  }

  committed(): void {
    this.#stored = this.#taken;
  }

  /** The next transaction takes a newer one. */
  failed(): void {}
}
