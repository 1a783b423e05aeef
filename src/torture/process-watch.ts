import { readdirSync, readFileSync, statSync } from "node:fs";
import type { Measure } from "./growth.ts";
import { HeapProbe } from "./heap-probe.ts";

const MIB = 1 << 20;

/** Figures of one running process, looked at from outside by /proc, and of its heap by its inspector. */
export class ProcessWatch {
  readonly measures = {
    rss: measure("resident memory", "MiB", { noise: 6, perFile: 0.0005 }),
    heap: measure("heap after a collection", "MiB", { noise: 1, perFile: 0.0005 }),
    descriptors: measure("open descriptors", "", { noise: 3 }),
    watches: measure("inotify watches", "", { noise: 2 }),
    rows: measure("rows of /metrics", "", { noise: 5 }),
    store: measure("checkpoint store", "KiB", { noise: 64, perFile: 1 }),
  };
  readonly #logPath: string;
  readonly #storePath: string;
  #probe: HeapProbe | undefined;

  /** `logPath`: where the process says where its inspector listens. */
  constructor(logPath: string, storePath: string) {
    this.#logPath = logPath;
    this.#storePath = storePath;
  }

  /** @throws where the process is gone */
  look(pid: number | undefined, seconds: number): void {
    const { rss, descriptors, watches, store } = this.measures;
    const folder = `/proc/${pid}`;
    const status = readFileSync(`${folder}/status`, "utf8");
    const open = readdirSync(`${folder}/fd`);
    rss.points.push([seconds, Number(/^VmRSS:\s+(\d+)/m.exec(status)![1]) / 1024]);
    descriptors.points.push([seconds, open.length]);
    watches.points.push([seconds, watchesOf(folder, open)]);
    store.points.push([seconds, statSync(this.#storePath).size / 1024]);
  }

  /** After a full collection, which holds the process up for a moment. */
  async lookAtHeap(seconds: number): Promise<void> {
    if (this.#probe === undefined) {
      const url = /Debugger listening on (ws:\S+)/.exec(readFileSync(this.#logPath, "utf8"))?.[1];
      if (url === undefined) return;
      this.#probe = await HeapProbe.open(url);
    }
    this.measures.heap.points.push([seconds, (await this.#probe.usedBytes()) / MIB]);
  }

  scraped(metrics: string, seconds: number): void {
    const rows = metrics.split("\n").filter((line) => line !== "" && !line.startsWith("#")).length;
    this.measures.rows.points.push([seconds, rows]);
  }

  close(): void {
    this.#probe?.close();
  }
}

function measure(name: string, unit: string, limits: { noise: number; perFile?: number }): Measure {
  return { name, unit, noise: limits.noise, perFile: limits.perFile ?? 0, points: [] };
}

function watchesOf(folder: string, descriptors: readonly string[]): number {
  let watches = 0;
  for (const descriptor of descriptors)
    try {
      watches += readFileSync(`${folder}/fdinfo/${descriptor}`, "utf8").match(/^inotify wd:/gm)?.length ?? 0;
    } catch {
      // Closed meanwhile.
    }
  return watches;
}
