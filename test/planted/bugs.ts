/** One way of getting it wrong, as a change of the code, and the tests of the suite that must then fail. */
export interface PlantedBug {
  readonly what: string;
  readonly file: string;
  /** Occurs exactly once in the file. */
  readonly find: string;
  readonly replace: string;
  readonly tests: readonly string[];
  /** Of the model: only in schedules with these kinds of trouble (TAILRACE_TEST_KINDS). */
  readonly kinds?: string;
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

const MODEL = ["test/model/model.test.ts"];
const IDENTITY = ["src/files/identity.test.ts"];

/** The kinds of getting it wrong with files that were found once, each put back. */
export const PLANTED_IN_FILES: readonly PlantedBug[] = [
  {
    what: "a position committed without the guard of the same instant",
    file: "src/pipeline/source-positions.ts",
    find: "      accompany: (submitted) => this.#describe(submitted),\n",
    replace: "      accompany: () => [],\n",
    tests: ["src/pipeline/source-positions.test.ts"],
  },
  {
    what: "a guard that covers what the slowest sink has, not the furthest",
    file: "src/pipeline/source-positions.ts",
    find: "      furthest.set(change.file, Math.max(known, endOf(change.value)));\n",
    replace: "      furthest.set(change.file, Math.min(known, change.value.prefix));\n",
    tests: ["src/pipeline/source-positions.test.ts"],
  },
  {
    what: "the bytes of a hole as evidence",
    file: "src/files/fingerprint.ts",
    find: "  return bytes.some((byte) => byte !== 0) ? contentMark(bytes) : EMPTY_MARK;\n",
    replace: "  return contentMark(bytes);\n",
    tests: ["src/files/fingerprint.test.ts"],
  },
  {
    what: "an equal beginning as proof where nothing was given out",
    file: "src/files/judge.ts",
    find: '    return "alike";\n',
    replace: '    return "same";\n',
    tests: ["src/files/judge.test.ts"],
  },
  {
    what: "holes skipped only where the truncation was seen",
    file: "src/files/reading-start.ts",
    find: "  const isHole = state.generation > 0 || bytes >= LEAST_HOLE_BYTES;\n",
    replace: "  const isHole = state.generation > 0;\n",
    tests: IDENTITY,
  },
  {
    what: "members appended to an archive that was read, left out",
    file: "src/files/whereabouts.ts",
    find: "    if (candidate.format === undefined) return candidate.stat.size > state.size;\n",
    replace: "    if (candidate.format !== undefined) return false;\n",
    tests: ["src/files/archives.test.ts"],
  },
  {
    what: "younger generations that wait for nobody",
    file: "src/files/family-line.ts",
    find: "      state.predecessor = before;\n",
    replace: "",
    tests: ["src/files/generations.test.ts"],
  },
  {
    what: "new content that waits behind a truncated one",
    file: "src/files/missing.ts",
    find: "    const isOver = isSurelyCut || state.knownLagBytes === 0 || (isOnce && !isFirst);\n",
    replace: "    const isOver = isSurelyCut && isOnce && !isFirst;\n",
    tests: IDENTITY,
  },
  {
    what: "a symbolic link's file known by the name of the link alone",
    file: "src/files/new-files.ts",
    find: "    const names = isLink ? [path, ...(await this.#realName(path))] : [path];\n",
    replace: "    const names = [path];\n",
    tests: MODEL,
    kinds: "symlinks",
  },
  {
    what: "a file that an editor saved, as another file",
    file: "src/files/recogniser.ts",
    find: "    await round.saved();\n",
    replace: "",
    tests: IDENTITY,
  },
  {
    what: 'read_from = "end" at each start',
    file: "src/files/new-files.ts",
    find: "this.#isFirstPass && this.#isFirstStart && before",
    replace: "this.#isFirstPass && before",
    tests: ["src/files/straight-tailing.test.ts"],
  },
  {
    what: "[!...] that matches what it excludes",
    file: "src/files/name-pattern.ts",
    find: '  const isNegated = characters[at] === "!" || characters[at] === "^";\n',
    replace: '  const isNegated = characters[at] === "^";\n',
    tests: ["src/files/glob-bash.test.ts"],
  },
  {
    what: "equal lines as proof",
    file: "src/files/evidence.ts",
    find: "      const isAgain = bytes.indexOf(window) < at || bytes.indexOf(window, at + 1) >= 0;\n",
    replace: "      const isAgain = false;\n",
    tests: IDENTITY,
  },
  {
    what: "a file that waits for another without its descriptor",
    file: "src/files/tailer-pool.ts",
    find: "    if (this.#waits(state)) return this.#running.size < this.#options.maxOpenFiles - 1;\n",
    replace: "    if (this.#waits(state)) return false;\n",
    tests: IDENTITY,
  },
  {
    what: "a loss that nobody tells",
    file: "src/files/missing.ts",
    find: "    if (lostBytes > 0) {\n",
    replace: "    if (lostBytes > 1e9) {\n",
    tests: MODEL,
    kinds: "everyday",
  },
  {
    what: "a sink that is not required and holds the others back",
    file: "src/pipeline/backlog.ts",
    find: "    if (limit === undefined) return true;\n",
    replace: "    if (limit !== 0) return true;\n",
    tests: ["src/pipeline/optional-sinks.test.ts"],
  },
];
