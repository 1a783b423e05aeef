/** Real time: what is done to an agent happens at a moment that a seed draws. */
export function passing(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
