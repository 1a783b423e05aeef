import { StageError, toError } from "../errors.ts";
import { FileSink } from "../outputs/file-sink.ts";
import { fileSinkOptions } from "../outputs/options.ts";
import { PathTemplate } from "../outputs/template.ts";
import { folderOf, pathToText } from "../runtime/byte-path.ts";
import { defineSink } from "../stage/index.ts";

/** Appends to files, exactly once: output and positions are cut to the same instant at each commit. */
export const fileSink = defineSink({
  type: "file",
  summary: "Appends records to a file, or to files named by their fields and time; exactly once.",
  options: fileSinkOptions,
  guarantee: "exactly_once",
  target: ({ path }) => {
    const { fixed, root } = new PathTemplate(path);
    return pathToText(fixed ?? root);
  },
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
      let folder = root;
      while (fileSystem.statSync(folder) === undefined && folder !== "/") folder = folderOf(folder);
      if (fileSystem.statSync(folder)?.kind !== "folder") throw new Error(`${pathToText(folder)} is no folder`);
    } catch (error) {
      throw new StageError("TR_STAGE_OPEN", name, `${options.path} cannot be written: ${toError(error).message}`, {
        cause: error,
      });
    }
  },
});
