export { LiveScreen } from "./live-screen.ts";
export { Soak } from "./soak.ts";
export { soakReport } from "./soak-report.ts";
export { keepEvidence } from "./trial.ts";
