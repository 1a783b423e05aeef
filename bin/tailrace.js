#!/usr/bin/env node
process.on("SIGUSR1", () => {}); // First of all: before a listener exists, Node opens its debugger on that signal.

if (["run", "tail", "demo"].includes(process.argv[2])) {
  // An agent that is still being loaded. Once it listens itself (src/cli/run-agent.ts), these do nothing.
  const isAlone = (signal) => process.listenerCount(signal) === 1;
  // Nothing is started yet: that is a graceful end.
  for (const signal of ["SIGTERM", "SIGINT"]) process.on(signal, () => isAlone(signal) && process.exit(0));
  // The configuration may have been read just before: it is said again until somebody listens.
  const sayAgain = () => isAlone("SIGHUP") && setTimeout(() => process.emit("SIGHUP"), 20).unref();
  process.on("SIGHUP", sayAgain);
}

const { setFlagsFromString } = await import("node:v8");
// Bytes that pass through make few objects: a young generation that grows to its 32 MiB costs up to 40 MiB resident and
// gains nothing (bench/README.md). It must be set before anything is loaded; transforms take it back (run-agent.ts).
setFlagsFromString("--semi-space-growth-factor=1");

const { existsSync } = await import("node:fs");
const main = new URL("../dist/cli/main.js", import.meta.url);

const load = () =>
  import(main.href).catch(({ message }) => {
    const mend =
      "too few files may be open at once (see `ulimit -n`, 256 will do), or the installation is not whole (`npm ci`)";
    process.stderr.write(`error: the program cannot be loaded (${message}); ${mend}\n`);
    process.exit(1);
  });

if (existsSync(main)) {
  const { main: run } = await load();
  // A reader that went away (`tailrace explain api | head -1`) is no failure of ours.
  for (const stream of [process.stdout, process.stderr]) stream.on("error", () => {});
  const code = await run(process.argv.slice(2));
  // Nothing may keep the process, and nothing that was written may be lost.
  process.exitCode = code;
  process.stdout.write("", () => process.stderr.write("", () => process.exit(code)));
} else {
  process.stderr.write("tailrace is not built: dist/ is missing; run `npm ci` (or `npm run build`) in this checkout\n");
  process.exitCode = 1;
}
