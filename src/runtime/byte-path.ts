/**
 * Paths are bytes (POSIX: anything but NUL and, in a name, `/`). A `BytePath` is a string whose characters are those
 * bytes, one each (latin1), so that paths are map keys, compare cheaply, and survive names that are no UTF-8.
 */
export type BytePath = string & { readonly __bytePath: unique symbol };

/** From text as a person writes it (UTF-8). */
export function pathFromText(text: string): BytePath {
  return Buffer.from(text, "utf8").toString("latin1") as BytePath;
}

export function pathFromBytes(bytes: Uint8Array): BytePath {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString("latin1") as BytePath;
}

export function pathToBytes(path: BytePath): Buffer {
  return Buffer.from(path, "latin1");
}

const strictUtf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/** For people and for the `file` field: UTF-8 where it is, each byte that is none as `\xNN`. */
export function pathToText(path: BytePath): string {
  const bytes = pathToBytes(path);
  try {
    return strictUtf8.decode(bytes);
  } catch {
    return escapeInvalidUtf8(bytes);
  }
}

function escapeInvalidUtf8(bytes: Buffer): string {
  let text = "";
  let at = 0;
  while (at < bytes.length) {
    const length = utf8Length(bytes, at);
    if (length === 0) {
      text += `\\x${bytes[at]!.toString(16).padStart(2, "0").toUpperCase()}`;
      at += 1;
    } else {
      text += bytes.toString("utf8", at, at + length);
      at += length;
    }
  }
  return text;
}

/** Length of the well-formed UTF-8 character at `at`, or 0. */
function utf8Length(bytes: Buffer, at: number): number {
  const lead = bytes[at]!;
  const length =
    lead < 0x80
      ? 1
      : lead >= 0xc2 && lead < 0xe0
        ? 2
        : lead >= 0xe0 && lead < 0xf0
          ? 3
          : lead >= 0xf0 && lead < 0xf5
            ? 4
            : 0;
  if (length === 0 || at + length > bytes.length) return 0;
  try {
    strictUtf8.decode(bytes.subarray(at, at + length));
    return length;
  } catch {
    return 0;
  }
}

/** The last name of a path. */
export function baseName(path: BytePath): BytePath {
  return path.slice(path.lastIndexOf("/") + 1) as BytePath;
}

/** The folder of an absolute path (`/` for `/a`). */
export function folderOf(path: BytePath): BytePath {
  const slash = path.lastIndexOf("/");
  return (slash <= 0 ? "/" : path.slice(0, slash)) as BytePath;
}

export function joinPath(folder: BytePath, name: BytePath): BytePath {
  return (folder.endsWith("/") ? folder + name : `${folder}/${name}`) as BytePath;
}
