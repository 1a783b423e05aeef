/**
 * Where a test of random schedules begins. In the suite always with the same, so that a red run says something about the
 * change and nothing about luck; the long form (TAILRACE_TEST_ROUNDS) looks where nobody has looked yet, and
 * TAILRACE_TEST_SEED replays what it found.
 */
export function firstSeed(usual = 1): number {
  const { TAILRACE_TEST_SEED: replayed, TAILRACE_TEST_ROUNDS: rounds } = process.env;
  if (replayed !== undefined) return Number(replayed);
  return rounds === undefined ? usual : Date.now() % 2 ** 31;
}
