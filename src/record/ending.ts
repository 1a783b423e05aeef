/**
 * How a record finished at one sink; exactly one per record and sink (delivery contract, section 5).
 *
 * - `delivered`: the sink took it
 * - `filtered`: a transform left it out on purpose
 * - `dropped`: a written overflow policy gave it up, counted
 * - `dead_lettered`: refused for good and durable in the dead letter store
 *
 * A record that is merely unsettled when the process ends has no ending: it is read again.
 */
export type Ending = "delivered" | "filtered" | "dropped" | "dead_lettered";
