export type { StageList } from "./components.ts";
export { defineConfig, type TailraceConfig } from "./define-config.ts";
export type { Explained } from "./explain.ts";
export type { ConfigFiles } from "./files.ts";
export { type Guarantee, guarantees, type PathGuarantee } from "./guarantee.ts";
export { type LoadedPlan, type LoadOptions, loadPlan } from "./load.ts";
export type { Plan } from "./plan.ts";
