/** flock(2): LOCK_EX = 2, LOCK_NB = 4, LOCK_UN = 8. */
const EXCLUSIVE_NOW = 2 | 4;
const UNLOCK = 8;

/**
 * flock(2), exclusive, without waiting, on an open descriptor: true once it is ours, until the descriptor is closed or
 * the process is gone, however it goes. False: another open of the same file has it, here or in another process. True
 * also where the file system has no locks at all (some network mounts): nobody can hold one there.
 * @throws Error there if the lock `isRequired`.
 */
export async function tryLockDescriptor(
  descriptor: number,
  { isRequired = false }: { isRequired?: boolean } = {},
): Promise<boolean> {
  loading ??= loadFlock();
  return (await loading).tryLock(descriptor, isRequired);
}

/** Lets go what `tryLockDescriptor` took, before its descriptor is closed. */
export async function unlockDescriptor(descriptor: number): Promise<void> {
  loading ??= loadFlock();
  (await loading).unlock(descriptor);
}

interface Flock {
  tryLock(descriptor: number, isRequired: boolean): boolean;
  unlock(descriptor: number): void;
}

let loading: Promise<Flock> | undefined;

/** Node has no flock of its own. Loaded on first use: native code is for those who need it. */
async function loadFlock(): Promise<Flock> {
  const koffi = await import("koffi");
  const flock = koffi.load(null).func("int flock(int descriptor, int operation)");
  const { EINTR, EAGAIN, EWOULDBLOCK } = koffi.os.errno as { [name: string]: number | undefined };
  return {
    tryLock(descriptor, isRequired) {
      while (flock(descriptor, EXCLUSIVE_NOW) !== 0) {
        const errno = koffi.errno();
        if (errno === EAGAIN || errno === EWOULDBLOCK) return false;
        if (errno === EINTR) continue;
        if (isRequired) throw new Error(`its file system has no locks (flock: errno ${errno})`);
        return true;
      }
      return true;
    },
    unlock(descriptor) {
      flock(descriptor, UNLOCK);
    },
  };
}
