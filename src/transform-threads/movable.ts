import type { TransformDefinition } from "../stage/index.ts";
import { builtInStages } from "../stages.ts";

const BUILT_IN: readonly TransformDefinition[] = builtInStages.transforms;

/** A transform that a thread can open by the name of its type; of library users' only their own process knows the code. */
export function movableTransform(type: string): TransformDefinition | undefined {
  return BUILT_IN.find((definition) => definition.type === type);
}
