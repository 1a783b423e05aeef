// The test kit: what Tailrace is tested with, for the stages and stores of others. It needs no particular test runner:
// a contract is a list of cases, `for (const { title, run } of sinkContract(harness)) it(title, run)`.
export {
  type CheckpointStoreUnderTest,
  checkpointStoreContract,
} from "./checkpoint-store-contract.ts";
export type { ContractCase } from "./contract-case.ts";
export { type Fault, FaultyFileSystem, type FileCall, SimulatedCrash } from "./faulty-file-system.ts";
export { ManualClock } from "./manual-clock.ts";
export { memoryPlan, planned } from "./memory-plan.ts";
export { linesBatch, type MemoryTarget, memorySink, memorySource } from "./memory-stages.ts";
export { SeededRandom } from "./seeded-random.ts";
export { sinkContext } from "./sink-context.ts";
export { type SinkHarness, type SinkTarget, sinkContract } from "./sink-contract.ts";
export { type TransformHarness, transformContract } from "./transform-contract.ts";
