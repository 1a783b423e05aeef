import { resolve } from "node:path";
import { StageError, toError } from "../errors.ts";
import { FileSink } from "../outputs/file-sink.ts";
import { fileSinkOptions } from "../outputs/options.ts";
import { probeFolder } from "../outputs/probe-folder.ts";
import { fixedOutput, PathTemplate } from "../outputs/template.ts";
import { defineSink } from "../stage/index.ts";

/** Appends to files, exactly once: output and positions are cut to the same instant at each commit. */
export const fileSink = defineSink({
  type: "file",
  summary: "Appends records to a file, or to files named by their fields and time; exactly once.",
  options: fileSinkOptions,
  guarantee: "exactly_once",
  // Two templates that differ may never meet; those that do are told apart where their outputs are locked.
  target: ({ path }) => resolve(path),
  output: ({ path }) => fixedOutput(path),
  open: (options, context) => FileSink.open(options, context),
  async probe(options, { name, fileSystem }) {
    const { fixed, root } = new PathTemplate(options.path);
    try {
      const stat = fixed === undefined ? undefined : fileSystem.statSync(fixed);
      if (stat !== undefined && fixed !== undefined) {
        if (stat.kind !== "file") throw new Error("it is no regular file");
        await (await fileSystem.open(fixed, "write")).close();
        return;
      }
      await probeFolder(root, fileSystem);
    } catch (error) {
      throw new StageError("TR_STAGE_OPEN", name, `${options.path} cannot be written: ${toError(error).message}`, {
        cause: error,
      });
    }
  },
});
