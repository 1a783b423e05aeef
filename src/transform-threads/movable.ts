import type { TransformDefinition } from "../stage/index.ts";
import { builtInStages } from "../stages.ts";

const BUILT_IN: readonly TransformDefinition[] = builtInStages.transforms;

/**
 * Whether threads can open the transform too. Not where code stands in its options: a function lives with what is around
 * it, and cannot be sent.
 */
export function isMovable(definition: TransformDefinition, options: unknown): boolean {
  const holdsCode = Object.values(options ?? {}).some((option) => typeof option === "function");
  return movableTransform(definition.type) === definition && !holdsCode;
}

/** A transform that a thread can open by the name of its type; of library users' only their own process knows the code. */
export function movableTransform(type: string): TransformDefinition | undefined {
  return BUILT_IN.find((definition) => definition.type === type);
}
