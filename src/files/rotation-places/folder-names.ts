import type { BytePath } from "../../runtime/byte-path.ts";
import type { Clock } from "../../runtime/clock.ts";
import type { FileSystem } from "../../runtime/file-system.ts";
import { familyOf } from "../family.ts";

interface Listing {
  readonly folders: readonly BytePath[];
  /** Those of `folders` with a name that rotation gives, by the name that it was before. */
  readonly rotated: ReadonlyMap<string, readonly BytePath[]>;
  /** What the other entries with such names were before. */
  readonly rotatedFiles: ReadonlySet<string>;
}

interface KeptListing extends Listing {
  readonly modifiedMs: number;
  readonly listedMs: number;
}

/** A folder that changed so shortly before its listing may change again within the same tick of its time stamp. */
const SETTLED_MS = 2000;
/** How long it is believed where a symbolic link leads. */
const LINK_MS = 1000;
const MAX_KEPT = 1000;
const NOTHING: Listing = { folders: [], rotated: new Map(), rotatedFiles: new Set() };

/** What lies in folders, by name; listed again only when the folder has changed. */
export class FolderNames {
  readonly #fileSystem: FileSystem;
  readonly #clock: Clock;
  readonly #listings = new Map<BytePath, KeptListing>();
  readonly #real = new Map<BytePath, { readonly path: BytePath; readonly lookedMs: number }>();

  constructor(fileSystem: FileSystem, clock: Clock) {
    this.#fileSystem = fileSystem;
    this.#clock = clock;
  }

  /** Folders, and links that may lead to one; none where it cannot be listed. */
  async in(folder: BytePath): Promise<readonly BytePath[]> {
    return (await this.#listing(folder)).folders;
  }

  /** Those with a name that rotation gives to a folder `name`. */
  async rotatedFrom(folder: BytePath, name: BytePath): Promise<readonly BytePath[]> {
    return (await this.#listing(folder)).rotated.get(name) ?? [];
  }

  /** Whether it holds a file with a name that rotation gives to a file `name`. */
  async holdsRotated(folder: BytePath, name: BytePath): Promise<boolean> {
    return (await this.#listing(folder)).rotatedFiles.has(name);
  }

  /** Without symbolic links, as of a second ago; as it is where nothing is there. */
  async real(folder: BytePath): Promise<BytePath> {
    const known = this.#real.get(folder);
    const lookedMs = this.#clock.monotonic();
    if (known !== undefined && lookedMs - known.lookedMs < LINK_MS) return known.path;
    const path = await this.#fileSystem.realpath(folder).catch(() => folder);
    if (this.#real.size >= MAX_KEPT) this.#real.clear();
    this.#real.set(folder, { path, lookedMs });
    return path;
  }

  /** When something in the folder was last made, renamed or removed, in ms; 0 where that cannot be told. */
  modifiedMs(folder: BytePath): number {
    try {
      return this.#fileSystem.statSync(folder)?.modifiedMs ?? 0;
    } catch {
      return 0;
    }
  }

  async #listing(folder: BytePath): Promise<Listing> {
    const modifiedMs = this.modifiedMs(folder);
    const kept = this.#listings.get(folder);
    if (kept?.modifiedMs === modifiedMs && kept.listedMs - modifiedMs >= SETTLED_MS) return kept;
    const listedMs = this.#clock.now();
    const listing = await this.#list(folder);
    if (this.#listings.size >= MAX_KEPT) this.#listings.clear();
    this.#listings.set(folder, { ...listing, modifiedMs, listedMs });
    return listing;
  }

  async #list(folder: BytePath): Promise<Listing> {
    try {
      const entries = await this.#fileSystem.readdir(folder);
      const folders: BytePath[] = [];
      const rotated = new Map<string, BytePath[]>();
      const rotatedFiles = new Set<string>();
      for (const { name, kind } of entries) {
        const { base, rank } = familyOf(name);
        if (rank.kind !== "none" && kind !== "folder") rotatedFiles.add(base);
        if (kind === "file" || kind === "other") continue;
        folders.push(name);
        if (rank.kind === "none") continue;
        const names = rotated.get(base) ?? [];
        rotated.set(base, names);
        names.push(name);
      }
      return { folders, rotated, rotatedFiles };
    } catch {
      // Gone, or not ours to list: no place.
      return NOTHING;
    }
  }
}
