import { readdirSync, readFileSync, statSync } from "node:fs";

/** Where the names of file systems are looked up; replaced in tests. */
export interface MountTable {
  /** The text of /proc/self/mountinfo (man 5 proc). */
  mountInfo(): string;
  /** The UUID of a block device, if udev knows one. */
  uuidOf(device: bigint): string | undefined;
}

interface Mount {
  readonly root: string;
  readonly mountPoint: string;
  readonly type: string;
  readonly source: string;
  readonly isBlockDevice: boolean;
}

/**
 * Names for file systems that stay the same when the machine starts again, unlike device numbers:
 * - `uuid:<UUID>` where the block device has one
 * - `<type>:<source>:<root>` for other block devices
 * - `<type>:<source>:<root>:<mount point>` for what has none (tmpfs, overlay, NFS): several of them share a source
 * - `device:<number>`, good for this boot only, where no mount tells (subvolumes of btrfs)
 */
export class FileSystemIds {
  readonly #table: MountTable;
  readonly #ids = new Map<bigint, string>();

  constructor(table: MountTable = systemMountTable) {
    this.#table = table;
  }

  /** The name of the file system that `st_dev` is `device`. Remembered; the mounts are read again for an unknown one. */
  idOf(device: bigint): string {
    let id = this.#ids.get(device);
    if (id === undefined) {
      const mount = mountsOf(this.#table.mountInfo(), device)[0];
      if (mount === undefined) return `device:${device}`;
      id = nameOf(mount, mount.isBlockDevice ? this.#table.uuidOf(device) : undefined);
      this.#ids.set(device, id);
    }
    return id;
  }
}

function nameOf(mount: Mount, uuid: string | undefined): string {
  if (uuid !== undefined) return `uuid:${uuid}`;
  const name = `${mount.type}:${mount.source}:${mount.root}`;
  return mount.isBlockDevice ? name : `${name}:${mount.mountPoint}`;
}

/** The mounts of one device, the one that shows most of it first: bind mounts show a part under the same number. */
function mountsOf(mountInfo: string, device: bigint): Mount[] {
  const wanted = `${majorOf(device)}:${minorOf(device)}`;
  const mounts: Mount[] = [];
  for (const line of mountInfo.split("\n")) {
    // 36 35 98:0 /root /mount/point rw,noatime master:1 - ext3 /dev/sda rw,errors=continue
    const [own, superblock] = line.split(" - ", 2);
    const [, , number, root, mountPoint] = (own ?? "").split(" ");
    const [type, source] = (superblock ?? "").split(" ");
    if (number !== wanted || root === undefined || mountPoint === undefined || type === undefined) continue;
    mounts.push({ root, mountPoint, type, source: source ?? "", isBlockDevice: majorOf(device) !== 0n });
  }
  return mounts.sort(
    (a, b) => compare(a.root.length, b.root.length) || compare(a.root, b.root) || compare(a.mountPoint, b.mountPoint),
  );
}

function compare<Value extends string | number>(a: Value, b: Value): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

/** man 3 makedev, as glibc encodes it. */
function majorOf(device: bigint): bigint {
  return ((device >> 8n) & 0xfffn) | ((device >> 32n) & 0xfffff000n);
}

function minorOf(device: bigint): bigint {
  return (device & 0xffn) | ((device >> 12n) & 0xffffff00n);
}

const UUID_FOLDER = "/dev/disk/by-uuid";

const systemMountTable: MountTable = {
  mountInfo() {
    try {
      return readFileSync("/proc/self/mountinfo", "latin1");
    } catch {
      return "";
    }
  },
  uuidOf(device) {
    try {
      return readdirSync(UUID_FOLDER).find((uuid) => {
        // A link may dangle while its device goes.
        const target = statSync(`${UUID_FOLDER}/${uuid}`, { bigint: true, throwIfNoEntry: false });
        return target?.rdev === device;
      });
    } catch {
      return undefined;
    }
  },
};
