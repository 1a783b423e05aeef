import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { TailBench } from "../tail-bench.test-kit.ts";
import type { TailerManagerOptions } from "../tailer-manager-options.ts";
import { combinationsOf, isLogrotateMissing, RotatedLog } from "./logrotate.test-kit.ts";

/** How the agent knows of the folder. */
interface Told {
  readonly by: string;
  readonly options: (log: RotatedLog) => Partial<TailerManagerOptions>;
  readonly folders: readonly string[];
}

const EVERYWHERE = ["noolddir", "olddir old", "olddir ROOT/elsewhere"];

const TOLD: readonly Told[] = [
  {
    by: "logrotate's configuration",
    options: ({ config }) => ({ logrotateConfiguration: [config] }),
    folders: EVERYWHERE,
  },
  {
    by: "rotated_to",
    options: ({ folder }) => ({ rotatedTo: [`${folder}/elsewhere/{name}*`, "old/{name}*"] }),
    folders: EVERYWHERE,
  },
  {
    by: "logrotate's configuration, and reads those, too",
    options: ({ folder, config }) => ({
      logrotateConfiguration: [config],
      include: [`${folder}/log/**/*.log*`, `${folder}/elsewhere/*`],
    }),
    folders: EVERYWHERE,
  },
  { by: "nobody, but below its own", options: () => ({}), folders: ["noolddir", "olddir old"] },
  {
    by: "nobody, but below its own, and reads those, too",
    options: ({ folder }) => ({ include: [`${folder}/log/**/*.log*`] }),
    folders: ["noolddir", "olddir old"],
  },
];

class Case {
  readonly bench = new TailBench();
  readonly log: RotatedLog;
  readonly #options: Partial<TailerManagerOptions>;
  readonly read: string[] = [];

  constructor(directives: readonly string[], told: Told) {
    this.log = new RotatedLog(this.bench.folder, directives);
    const none = { logrotateConfiguration: [join(this.bench.folder, "none")] };
    const include = [`${this.bench.folder}/log/*.log`];
    this.#options = { include, scanIntervalMs: 100, ...none, ...told.options(this.log) };
  }

  /** Until all is read that was written, or for so long. */
  async run(meanwhile?: () => Promise<void>): Promise<void> {
    const { lines, stop } = this.bench.start(this.#options);
    const caughtUp = async () => {
      const wanted = this.log.written.length - this.read.length;
      for (let waits = 0; lines.length < wanted && waits < 60; waits += 1) await sleep(100);
    };
    // A log that was rotated before anybody saw it is another matter.
    await caughtUp();
    await meanwhile?.();
    await caughtUp();
    // What comes twice comes late.
    await sleep(500);
    await stop();
    this.read.push(...lines.map(({ text }) => text));
  }

  async writeAndRotate(): Promise<void> {
    this.log.write();
    await this.log.rotate();
    this.log.write();
    // Names with dates tell seconds apart.
    await sleep(1100);
  }
}

describe.skipIf(isLogrotateMissing).each(TOLD)("TailerManager › logrotate, told of its folders by $by", (told) => {
  describe.each([{ when: "live" }, { when: "while nobody reads" }])("$when", ({ when }) => {
    const cases = combinationsOf(
      ["create", "copytruncate"],
      ["nodateext", "dateext\n dateformat -%Y%m%d-%s"],
      ["nocompress", "compress", "compress\n delaycompress"],
      told.folders,
    ).map(({ title, directives }) => ({ title, tried: new Case(directives, told) }));

    beforeAll(async () => {
      await Promise.all(
        cases.map(async ({ tried }) => {
          tried.log.write();
          const rotateTwice = async () => {
            await tried.writeAndRotate();
            await tried.writeAndRotate();
          };
          if (when === "live") {
            await tried.run(rotateTwice);
          } else {
            await tried.run();
            await rotateTwice();
            await tried.run();
          }
        }),
      );
    }, 60_000);

    afterAll(() => Promise.all(cases.map(({ tried }) => tried.bench.close())));

    it.each(cases)("reads every line once and in order: $title", ({ tried }) => {
      expect(tried.read).toEqual(tried.log.written);
    });
  });
});
