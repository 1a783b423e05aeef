/**
 * Resolves when the `wake` that `arm` was given is called, or `signal` aborts, whatever comes first. Nothing stays behind
 * on the signal: one that lives as long as the process would otherwise gather a listener with each wait, and a promise of
 * its abort that is raced again and again would keep the result of every race.
 */
export function untilWoken(signal: AbortSignal, arm: (wake: () => void) => void): Promise<void> {
  return new Promise((resolve) => {
    const wake = () => {
      signal.removeEventListener("abort", wake);
      resolve();
    };
    signal.addEventListener("abort", wake, { once: true });
    arm(wake);
    if (signal.aborted) wake();
  });
}
