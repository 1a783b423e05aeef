/** One way of getting it wrong, as a change of the code, and the tests of the suite that must then fail. */
export interface PlantedBug {
  readonly what: string;
  readonly file: string;
  /** Occurs exactly once in the file. */
  readonly find: string;
  readonly replace: string;
  readonly tests: readonly string[];
}

/** The twelve of the delivery contract, section 9. */
export const PLANTED: readonly PlantedBug[] = [
  {
    what: "commit before fdatasync",
    file: "src/outputs/output.ts",
    find: "    await this.#handle.datasync();\n",
    replace: "    void this.#handle.datasync().catch(() => {});\n",
    tests: ["src/outputs/crash.test.ts", "src/sinks/file.test.ts"],
  },
  {
    what: "fdatasync retried on the same data after EIO",
    file: "src/outputs/output.ts",
    find: "    await this.#handle.datasync();\n",
    replace: "    await this.#handle.datasync().catch(() => this.#handle.datasync());\n",
    tests: ["src/outputs/crash.test.ts", "src/sinks/file.test.ts"],
  },
  {
    what: "a new output without fsync of its folder",
    file: "src/outputs/output-opener.ts",
    find: "      await this.#context.fileSystem.syncFolder(folder);\n      await this.#syncAncestors(folder);\n",
    replace: "",
    tests: ["src/outputs/crash.test.ts", "src/sinks/file.test.ts"],
  },
  {
    what: "the highest acknowledged instead of the set",
    file: "src/checkpoint/settled-set.ts",
    find: "    if (start <= this.#prefix) {\n",
    replace: "    if (start >= 0) {\n",
    tests: ["src/checkpoint/settled-set.test.ts", "test/model/delivery.test.ts"],
  },
  {
    what: "the guard looked at when a file is opened only",
    file: "src/files/tailer.ts",
    find: "        hasShrunk(state, stat, seen) ||\n        !startsWith(lease.buffer, state.guard)\n",
    replace: "        hasShrunk(state, stat, seen)\n",
    tests: ["src/files/reading-on.test.ts"],
  },
  {
    what: "a renamed file closed at its first end",
    file: "src/files/tailer.ts",
    find: "      if (quietMs >= rotateWaitMs) return",
    replace: "      if (quietMs >= 0) return",
    tests: ["src/files/reading-on.test.ts"],
  },
  {
    what: "no truncation after a short write",
    file: "src/outputs/batch-appends.ts",
    find: "      await Promise.all(this.#appends.map(({ output }) => output.cutTo(output.length)));\n",
    replace: "",
    tests: ["src/sinks/file.test.ts", "src/outputs/crash.test.ts"],
  },
  {
    what: "a start from the position of one sink only",
    file: "src/pipeline/source-positions.ts",
    find: "    return Math.min(\n      ...this.#laneIds.map(",
    replace: "    return Math.max(\n      ...this.#laneIds.slice(0, 1).map(",
    tests: ["src/pipeline/source-positions.test.ts", "test/model/delivery.test.ts"],
  },
  {
    what: "a fan-out settled at its first branch",
    file: "src/pipeline/edge.ts",
    find: "  for (let extra = 1; extra < routes.length; extra += 1) batch.memory.retain();\n",
    replace: "",
    tests: ["test/model/delivery.test.ts"],
  },
  {
    what: "a dead letter settled before it is durable",
    file: "src/pipeline/sink-runner.ts",
    find: "    if (!(await this.#options.deadLetters.put(this.name, [rejection], attempts, this.#abort.signal))) return false;\n",
    replace:
      "    void this.#options.deadLetters.put(this.name, [rejection], attempts, this.#abort.signal).catch(() => {});\n",
    tests: ["src/pipeline/sink-runner.test.ts", "test/model/delivery.test.ts"],
  },
  {
    what: "a filtered batch that never settles",
    file: "src/pipeline/transform-runner.ts",
    find: '    if (isEmpty) return endBatch(left, route.lanes, "filtered", filtered);\n',
    replace: "    if (isEmpty) return left.memory.release();\n",
    tests: ["src/pipeline/pipeline.test.ts", "test/model/delivery.test.ts"],
  },
  {
    what: "a retry after an unknown outcome without asking the target",
    file: "src/pipeline/sink-runner.ts",
    find: "      if (outcome.isOutcomeUnknown) {\n",
    replace: "      if (outcome.isOutcomeUnknown && attempts < 0) {\n",
    tests: ["src/pipeline/sink-runner.test.ts", "test/model/delivery.test.ts"],
  },
];
