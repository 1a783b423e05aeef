/** flock(2): LOCK_EX = 2, LOCK_NB = 4. */
const EXCLUSIVE_NOW = 2 | 4;

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
  return (await loading)(descriptor, isRequired);
}

type TryLock = (descriptor: number, isRequired: boolean) => boolean;

let loading: Promise<TryLock> | undefined;

/** Node has no flock of its own. Loaded on first use: native code is for those who need it. */
async function loadFlock(): Promise<TryLock> {
  const koffi = await import("koffi");
  const flock = koffi.load(null).func("int flock(int descriptor, int operation)");
  const { EINTR, EAGAIN, EWOULDBLOCK } = koffi.os.errno as { [name: string]: number | undefined };
  return (descriptor, isRequired) => {
    while (flock(descriptor, EXCLUSIVE_NOW) !== 0) {
      const errno = koffi.errno();
      if (errno === EAGAIN || errno === EWOULDBLOCK) return false;
      if (errno === EINTR) continue;
      if (isRequired) throw new Error(`its file system has no locks (flock: errno ${errno})`);
      return true;
    }
    return true;
  };
}
