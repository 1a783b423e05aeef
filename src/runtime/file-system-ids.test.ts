import { describe, expect, it } from "vitest";
import { FileSystemIds } from "./file-system-ids.ts";

/** As the C library packs it (man 3 makedev). */
function device(major: number, minor: number): bigint {
  const [high, low] = [BigInt(major), BigInt(minor)];
  return ((high & 0xfffff000n) << 32n) | ((high & 0xfffn) << 8n) | ((low & 0xffffff00n) << 12n) | (low & 0xffn);
}

const MOUNTS = [
  "30 27 254:0 /var/lib/thing /mnt/part rw shared:7 - ext4 /dev/vda1 rw",
  "27 1 254:0 / / rw,relatime master:1 propagate_from:2 - ext4 /dev/vda1 rw,discard",
  "31 27 8:17 / /data rw - xfs /dev/sdb1 rw",
  "32 27 0:23 / /dev/shm rw,relatime - tmpfs tmpfs rw",
  "33 27 0:24 / /run rw,relatime - tmpfs tmpfs rw",
  "34 27 0:70 / /mnt/my\\040logs rw - nfs4 server:/export rw",
  "35 27 259:300000 / /big rw - ext4 /dev/nvme0n1 rw",
  "",
].join("\n");

function idsOf(mounts: { text: string }, uuids: Record<string, string> = {}) {
  let readCount = 0;
  const ids = new FileSystemIds({
    mountInfo: () => {
      readCount += 1;
      return mounts.text;
    },
    uuidOf: (number) => uuids[String(number)],
  });
  return { ids, reads: () => readCount };
}

describe("FileSystemIds", () => {
  it("prefers the UUID of the device", () => {
    const { ids } = idsOf({ text: MOUNTS }, { [String(device(254, 0))]: "1234-abcd" });
    expect(ids.idOf(device(254, 0))).toBe("uuid:1234-abcd");
  });

  it("else names a device by source and root, seen through the mount that shows most of it", () => {
    const { ids } = idsOf({ text: MOUNTS });
    expect(ids.idOf(device(254, 0))).toBe("ext4:/dev/vda1:/");
    expect(ids.idOf(device(8, 17))).toBe("xfs:/dev/sdb1:/");
    expect(ids.idOf(device(259, 300000))).toBe("ext4:/dev/nvme0n1:/");
  });

  it("tells two file systems without a device apart by where they are mounted", () => {
    const { ids } = idsOf({ text: MOUNTS });
    expect(ids.idOf(device(0, 23))).toBe("tmpfs:tmpfs:/:/dev/shm");
    expect(ids.idOf(device(0, 24))).toBe("tmpfs:tmpfs:/:/run");
    expect(ids.idOf(device(0, 70))).toBe("nfs4:server:/export:/:/mnt/my\\040logs");
  });

  it("reads the mounts again for an unknown device only", () => {
    const mounts = { text: MOUNTS };
    const { ids, reads } = idsOf(mounts);
    ids.idOf(device(8, 17));
    ids.idOf(device(8, 17));
    expect(reads()).toBe(1);
    expect(ids.idOf(device(0, 99))).toBe(`device:${device(0, 99)}`);
    mounts.text += "36 27 0:99 / /late rw - tmpfs late rw\n";
    expect(ids.idOf(device(0, 99))).toBe("tmpfs:late:/:/late");
  });
});
