import { kafkaJars } from "./kafka.ts";
import { hasNatsServer } from "./nats.ts";

const CHECKS = { "nats-server": hasNatsServer, "a Kafka broker": () => kafkaJars() !== undefined } as const;

/**
 * Whether a server is there for tests to start; where it is missing they are skipped, loudly, and in CI they fail.
 * `describe.skipIf(!needs("nats-server"))`
 */
export function needs(server: keyof typeof CHECKS): boolean {
  if (CHECKS[server]()) return true;
  if (process.env["CI"] === "true") throw new Error(`CI must have ${server}`);
  console.warn(`SKIPPED: this needs ${server} (see scripts/install-test-needs.sh and scripts/fetch-kafka.sh)`);
  return false;
}
