import { errnoOf } from "../errors.ts";

/** renameat2(2): relative paths start at the working directory. */
const AT_FDCWD = -100;
const RENAME_NOREPLACE = 1;

/** The calls that stand in where the kernel or the file system has no RENAME_NOREPLACE. */
export interface LinkCalls {
  link(existing: Buffer, name: Buffer): Promise<void>;
  unlink(name: Buffer): Promise<void>;
}

type RenameCall = (from: Buffer, to: Buffer) => string | undefined;

/**
 * Renames a file, but never onto another one: fails with EEXIST where `to` exists. One atomic step where the file
 * system offers it, else a hard link and then an unlink.
 */
export async function renameNoReplace(from: Buffer, to: Buffer, calls: LinkCalls): Promise<void> {
  const errno = (await renameCall())(from, to);
  if (errno === undefined) return;
  // EINVAL: not this file system (man 2 rename); ENOSYS: not this kernel, or no libc that knows the call.
  if (errno !== "EINVAL" && errno !== "ENOSYS") throw failure(errno, from, to);
  await linkAndUnlink(from, to, calls);
}

/** The same in two steps. */
export async function linkAndUnlink(from: Buffer, to: Buffer, calls: LinkCalls): Promise<void> {
  await calls.link(from, to);
  // Dying here leaves one file under both names: nothing is lost, and the same call repeated says EEXIST.
  try {
    await calls.unlink(from);
  } catch (error) {
    // As before the call, then, so that the caller may try again; an ENOENT means that somebody else finished it.
    if (errnoOf(error) !== "ENOENT") {
      await calls.unlink(to);
      throw error;
    }
  }
}

let loaded: Promise<RenameCall> | undefined;

function renameCall(): Promise<RenameCall> {
  loaded ??= loadRenameCall();
  return loaded;
}

/** The errno name of renameat2, or undefined when it succeeded. */
async function loadRenameCall(): Promise<RenameCall> {
  try {
    const { default: koffi } = await import("koffi");
    const signature =
      "int renameat2(int fromFolder, const void *from, int toFolder, const void *to, unsigned int flags)";
    const renameat2 = koffi.load(null).func(signature) as (...args: unknown[]) => number;
    const names = new Map(Object.entries(koffi.os.errno).map(([name, value]) => [value, name]));
    return (from, to) => {
      if (renameat2(AT_FDCWD, terminated(from), AT_FDCWD, terminated(to), RENAME_NOREPLACE) === 0) return undefined;
      return names.get(koffi.errno()) ?? "EIO";
    };
  } catch {
    // A machine without a prebuilt koffi, or a libc without renameat2.
    return () => "ENOSYS";
  }
}

/** A C string. A name cannot hold the NUL that would cut it short: the kernel could never have said it. */
function terminated(path: Buffer): Buffer {
  return Buffer.concat([path, Buffer.alloc(1)]);
}

function failure(errno: string, from: Buffer, to: Buffer): Error {
  const message = `${errno}: renameat2 without replacing '${from}' -> '${to}'`;
  return Object.assign(new Error(message), { code: errno, syscall: "renameat2", path: `${from}`, dest: `${to}` });
}
