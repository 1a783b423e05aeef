import { readdirSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";

/** The content of every file of a store, by name. */
export function snapshot(folder: string): Record<string, string> {
  const files: Record<string, string> = {};
  for (const name of readdirSync(folder, { recursive: true }) as string[]) {
    const path = join(folder, name);
    // Readers register in lock.mdb; it holds no data.
    if (statSync(path).isFile() && !name.endsWith("lock.mdb")) files[name] = readFileSync(path, "base64");
  }
  return files;
}
