import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { toError } from "../errors.ts";
import { PgSession } from "../postgres/session.ts";
import { systemClock } from "../runtime/clock.ts";
import { installPgmq } from "../sinks/pgmq/install.ts";
import { type ConfigOptions, loadPlanFromOptions } from "./config-options.ts";
import { type CliIo, coloursFor } from "./io.ts";
import type { LogOptions } from "./run.ts";
import { runAgent } from "./run-agent.ts";
import { formatCount } from "./status-line.ts";

const SEND_MS = 50;
const TASKS_AT_ONCE = 5;
const TELL_MS = 2000;

/** The database of this process, in memory. */
const URL = "pglite:";

/** What works on a task: writes down that it did. */
const WORKER = (worked: string) => `import { appendFileSync } from "node:fs";
export default async function work({ task }) {
  await new Promise((resolve) => setTimeout(resolve, 5));
  appendFileSync(${JSON.stringify(worked)}, task + "\\n");
}
`;

/** Tasks in a queue of Postgres that needs no server, worked on in threads, each archived when it is done. */
export async function queueTour(
  folder: string,
  options: LogOptions & { readonly seconds?: number },
  io: CliIo,
): Promise<number> {
  const paint = coloursFor(io.stderr, io.env);
  const module = join(folder, "task.mjs");
  const worked = join(folder, "worked.log");
  writeFileSync(module, WORKER(worked));
  io.stderr.write(`${paint.bold("Starting Postgres inside of this process (PGlite); that takes a few seconds.")}\n`);
  const queue = await DemoQueue.open();
  const config = {
    state_dir: join(folder, "state"),
    api: { enabled: false },
    sources: { tasks: { type: "pgmq", url: URL, queue: "tasks", enable_notify: true } },
    sinks: { work: { type: "handler", inputs: ["tasks"], module, concurrency: 2, max_in_flight: 4 } },
  };
  io.stderr.write(
    `${paint.bold("Tasks are sent to the queue")} tasks${paint.bold(", two threads work on them, and each is archived when it is done.")}\n` +
      `Stop with Ctrl-C.\n`,
  );
  const empty: ConfigOptions = { config: [], set: [] };
  const { plan } = await loadPlanFromOptions(empty, io, { made: { by: "demo", config } });
  const run = (once: boolean, logLevel = options.logLevel) =>
    runAgent(plan, { once, logLevel, logFormat: options.logFormat }, io);
  const stop = () => queue.stopSending();
  const timer =
    options.seconds === undefined
      ? undefined
      : setTimeout(() => process.kill(process.pid, "SIGINT"), options.seconds * 1000);
  const teller = setInterval(
    () =>
      void queue.counts().then(
        (counts) => io.stderr.write(tell(counts, worked)),
        () => {},
      ),
    TELL_MS,
  );
  process.once("SIGINT", stop).once("SIGTERM", stop);
  queue.startSending();
  try {
    let code = await run(false);
    await queue.stopSending();
    // What was sent in the last instant is still in the queue: one more pass works on it.
    if (code === 0) code = await run(true, "error");
    if (code !== 0) return code;
    const counts = await queue.counts();
    io.stderr.write(tell(counts, worked));
    return verify(counts, worked, io);
  } finally {
    clearTimeout(timer);
    clearInterval(teller);
    process.off("SIGINT", stop).off("SIGTERM", stop);
    await queue.close();
  }
}

interface Counts {
  readonly sent: number;
  readonly waiting: number;
  readonly archived: number;
}

function workedTasks(path: string): string[] {
  return existsSync(path) ? readFileSync(path, "utf8").split("\n").slice(0, -1) : [];
}

function tell({ sent, waiting, archived }: Counts, worked: string): string {
  const done = workedTasks(worked).length;
  return `sent ${formatCount(sent)} tasks, worked on ${formatCount(done)}, archived ${formatCount(archived)}, in the queue ${formatCount(waiting)}\n`;
}

/** Each task must have been worked on once, and be in the archive. */
function verify({ sent, waiting, archived }: Counts, worked: string, io: CliIo): number {
  const tasks = workedTasks(worked);
  const missing = sent - new Set(tasks).size;
  const repeated = tasks.length - new Set(tasks).size;
  io.stderr.write(`missing ${missing}, repeated ${repeated}\n`);
  return missing === 0 && repeated === 0 && waiting === 0 && archived === sent ? 0 : 1;
}

/** The program that has tasks for others. */
class DemoQueue {
  readonly #session: PgSession;
  #timer: NodeJS.Timeout | undefined;
  #sent = 0;
  /** One request after the other. */
  #work: Promise<unknown> = Promise.resolve();

  private constructor(session: PgSession) {
    this.#session = session;
  }

  static async open(): Promise<DemoQueue> {
    const options = { url: URL, applicationName: "demo", timeoutMs: 60_000, clock: systemClock };
    const session = await PgSession.open(options, new AbortController().signal);
    await installPgmq(session);
    await session.query("SELECT pgmq.create('tasks')");
    return new DemoQueue(session);
  }

  startSending(): void {
    this.#timer = setInterval(() => {
      const tasks = Array.from({ length: TASKS_AT_ONCE }, (_, index) => JSON.stringify({ task: this.#sent + index }));
      this.#sent += TASKS_AT_ONCE;
      void this.#after(() =>
        this.#session.query("SELECT count(*) FROM pgmq.send_batch('tasks', string_to_array($1, E'\\n')::jsonb[])", [
          tasks.join("\n"),
        ]),
      ).catch((error: unknown) => {
        throw toError(error);
      });
    }, SEND_MS);
  }

  async stopSending(): Promise<void> {
    clearInterval(this.#timer);
    await this.#work;
  }

  async counts(): Promise<Counts> {
    const { rows } = await this.#after(() =>
      this.#session.query("SELECT (SELECT count(*) FROM pgmq.q_tasks), (SELECT count(*) FROM pgmq.a_tasks)"),
    );
    return { sent: this.#sent, waiting: Number(rows[0]![0]), archived: Number(rows[0]![1]) };
  }

  async close(): Promise<void> {
    await this.stopSending();
    await this.#session.close();
  }

  #after<T>(work: () => Promise<T>): Promise<T> {
    const result = this.#work.then(work);
    this.#work = result.catch(() => {});
    return result;
  }
}
