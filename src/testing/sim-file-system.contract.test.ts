import type { BytePath } from "../runtime/byte-path.ts";
import { fileSystemSuite } from "./file-system-suite.ts";
import { SeededRandom } from "./seeded-random.ts";
import { SimDisk } from "./sim-disk.ts";
import { SimFileSystem } from "./sim-file-system.ts";
import { SimPrograms } from "./sim-programs.ts";

let seed = 0;
fileSystemSuite("SimFileSystem", () => {
  seed += 1;
  const disk = new SimDisk({ random: new SeededRandom(seed) });
  const programs = new SimPrograms(disk);
  programs.mkdirs("/logs");
  const files = new SimFileSystem(disk);
  return { files, folder: "/logs" as BytePath, programs };
});
