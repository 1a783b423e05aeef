import type { OutputNames } from "../../outputs/record-routing.ts";
import { PathTemplate } from "../../outputs/template.ts";
import type { DataRecord } from "../../record/index.ts";
import { type BytePath, baseName, folderOf, joinPath } from "../../runtime/byte-path.ts";
import type { JournalEvent } from "./journal.ts";

const ENDING = ".parquet";

/**
 * How the files of a Parquet sink are called, for `/data/slots-{time:%Y%m%dT%H%M}.parquet`:
 *
 * | file | name |
 * |---|---|
 * | the journal that records are appended to | `.slots-20261121T10_M.parquet.open` |
 * | it, once it is closed | `.slots-20261121T10_M.parquet.open.20261121T105900Z` |
 * | the Parquet file while it is written | the same and `.tmp` |
 * | the finished file | `slots-20261121T1003.parquet`, by its first record |
 */
export class JournalNames implements OutputNames {
  readonly root: BytePath;
  readonly fixed: BytePath | undefined;
  readonly isSameForLines: boolean;
  readonly #template: PathTemplate;

  /** @throws Error as PathTemplate does */
  constructor(path: string) {
    this.#template = new PathTemplate(path);
    const { root, fixed, isSameForLines } = this.#template;
    this.root = root;
    this.isSameForLines = isSameForLines;
    this.fixed = fixed === undefined ? undefined : joinPath(folderOf(fixed), openName(baseName(fixed)));
  }

  namesFor(record: DataRecord): readonly BytePath[] {
    const names = this.#template.namesByHourFor(record);
    return [...names.slice(0, -1), openName(names.at(-1)!)];
  }

  /** The name that the finished file is to have. `beganAtMs`: its time, where the first record does not say one. */
  finalName(journal: BytePath, first: JournalEvent, beganAtMs: number): BytePath {
    const { fixed } = this.#template;
    const name = fixed === undefined ? this.#template.namesForEvent(first, beganAtMs).at(-1)! : baseName(fixed);
    return joinPath(folderOf(journal), name);
  }
}

const openName = (name: BytePath) => `.${name}.open` as BytePath;

/** `x.parquet`, `x-1.parquet`, `x-2.parquet`, ... */
export function numbered(path: BytePath, number: number): BytePath {
  return number === 0 ? path : (`${path.slice(0, -ENDING.length)}-${number}${ENDING}` as BytePath);
}
