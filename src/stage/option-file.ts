import { toError } from "../errors.ts";
import { pathFromText } from "../runtime/byte-path.ts";
import type { FileSystem } from "../runtime/file-system.ts";

/**
 * Reads the file that an option names (`tls.ca = "/etc/ca.pem"`) whole.
 * @throws Error that names the option, the file and the reason.
 */
export async function readOptionFile(option: string, path: string, fileSystem: FileSystem): Promise<Buffer> {
  try {
    const handle = await fileSystem.open(pathFromText(path), "read");
    try {
      const { size } = await handle.stat();
      const bytes = Buffer.alloc(size);
      let filled = 0;
      while (filled < size) {
        const count = await handle.read(bytes, filled, size - filled, filled);
        if (count === 0) break;
        filled += count;
      }
      return bytes.subarray(0, filled);
    } finally {
      await handle.close();
    }
  } catch (thrown) {
    throw new Error(`${option} = "${path}" cannot be read: ${toError(thrown).message}`, { cause: thrown });
  }
}
