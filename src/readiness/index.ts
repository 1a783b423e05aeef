export { TaskReadiness, type WaitingTask } from "./task-readiness.ts";
