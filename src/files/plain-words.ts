import type { ArchiveMark } from "../checkpoint/checkpoint-store.ts";
import { errnoOf } from "../errors.ts";
import { type BytePath, pathToText } from "../runtime/byte-path.ts";
import type { FileStat, FileSystem } from "../runtime/file-system.ts";

/** What must happen before a file can be read that gives this error; undefined: nobody knows, and it is tried again. */
export function mendOf(error: Error, path: BytePath): string | undefined {
  switch (errnoOf(error)) {
    case "EACCES":
    case "EPERM":
      return `permission: let the user that runs Tailrace read it and enter its folders (its group, or setfacl -m u:USER:r ${pathToText(path)})`;
    case "EMFILE":
      return "a free descriptor: this process may open no more files (see ulimit -n)";
    case "ENFILE":
      return "a free descriptor: the whole system may open no more files";
    default:
      return undefined;
  }
}

/** What keeps an archive from being decompressed to its end; undefined: nothing. */
export function damageText(archive: ArchiveMark | undefined): string | undefined {
  if (archive?.damage === undefined) return undefined;
  const { reason, at } = archive.damage;
  return at === undefined ? reason : `${reason} (byte ${at} of the archive)`;
}

/** What lies at a path that is no regular file, and what can be done; undefined: a file, nothing, or it cannot be told. */
export async function whatElseItIs(fileSystem: FileSystem, path: BytePath): Promise<string | undefined> {
  let stat: FileStat | undefined;
  try {
    stat = fileSystem.statSync(path);
  } catch (error) {
    return errnoOf(error) === "ELOOP" ? "it is a symbolic link that leads to itself" : undefined;
  }
  if (stat?.kind === "folder") return `it is a folder, and files are read; did you mean ${pathToText(path)}/**?`;
  if (stat?.kind === "other") return "it is a device, a pipe or a socket, and only regular files are read";
  if (stat !== undefined) return undefined;
  const isThere = await fileSystem.lstat(path).then(
    () => true,
    () => false,
  );
  return isThere ? "it is a symbolic link, and nothing is where it leads; it is read once something is" : undefined;
}
