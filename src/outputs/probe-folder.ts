import { constants } from "node:fs";
import { access, statfs } from "node:fs/promises";
import { type BytePath, folderOf, pathToBytes, pathToText } from "../runtime/byte-path.ts";
import type { FileSystem } from "../runtime/file-system.ts";

/** File systems that only look like one (`man 2 statfs`): proc and sysfs. Their folders may be "writable" and take no file. */
const KERNEL_VIEWS = new Set([0x9fa0, 0x62656572]);

/**
 * Whether outputs could be made in `folder`, or the folders on the way to it; nothing is made.
 * @throws Error that says what is in the way.
 */
export async function probeFolder(folder: BytePath, fileSystem: FileSystem): Promise<void> {
  let nearest = folder;
  while (fileSystem.statSync(nearest) === undefined && nearest !== "/") nearest = folderOf(nearest);
  if (fileSystem.statSync(nearest)?.kind !== "folder") throw new Error(`${pathToText(nearest)} is no folder`);
  const bytes = pathToBytes(nearest);
  await access(bytes, constants.W_OK | constants.X_OK);
  if (KERNEL_VIEWS.has((await statfs(bytes)).type))
    throw new Error(`${pathToText(nearest)} is a view into the kernel and takes no files`);
}
