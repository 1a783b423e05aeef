export { Dispatch } from "./dispatch.ts";
export { startProcess } from "./foreign-process.ts";
export { HandlerPool } from "./handler-pool.ts";
export { Task, type TaskOwner } from "./task.ts";
export { startThread, tryModule } from "./task-module.ts";
export type { StartWorker } from "./worker-link.ts";
