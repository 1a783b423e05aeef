import { type BytePath, folderOf } from "../../runtime/byte-path.ts";
import type { FolderRank, Rank, Sibling } from "../family.ts";

type ModifiedMs = (name: BytePath) => number | undefined;

/**
 * The generations of one family in the order of their rotation, oldest first.
 *
 *     app-20260130/ : all of it          a folder with a rank is older than the folder that the family lives in now
 *     app-20260131/ : all of it
 *     app.log-20260201  app.log.2  app.log.1      dates by date, numbers of one folder by number; where they meet, by time
 *     app.log.gz                                  the file itself, compressed by hand
 *
 * Where a plain and a compressed name have the same rank, the plain one comes first.
 *
 * @param modifiedMs by `Sibling.name`; decides between equal ranks, and between names that cannot be compared: a date and
 *   a number, numbers of different folders (without it dated ones are taken for older)
 */
export function oldestFirst<Member extends Sibling>(siblings: readonly Member[], modifiedMs: ModifiedMs): Member[] {
  const unranked: Member[] = [];
  const ranked = new Map<string, { readonly rank: FolderRank; readonly members: Member[] }>();
  for (const sibling of siblings) {
    const rank = sibling.folderRank;
    if (rank === undefined) {
      unranked.push(sibling);
      continue;
    }
    const name = JSON.stringify(rank);
    const group = ranked.get(name) ?? { rank, members: [] };
    ranked.set(name, group);
    group.members.push(sibling);
  }
  const groups = [...ranked.values()].map((group) => ({ ...group, members: inOneFolder(group.members, modifiedMs) }));
  const youngestMs = (members: readonly Member[]): number | undefined => modifiedMs(members[members.length - 1]!.name);
  const byRank = (kind: FolderRank["kind"]) =>
    groups.filter(({ rank }) => rank.kind === kind).sort((a, b) => compareRanks(a.rank, b.rank));
  const folders = merge([byRank("date"), byRank("number")], ({ members }) => youngestMs(members));
  return [...folders.flatMap(({ members }) => members), ...inOneFolder(unranked, modifiedMs)];
}

/** Of folders without a rank, or of one with it. */
function inOneFolder<Member extends Sibling>(siblings: readonly Member[], modifiedMs: ModifiedMs): Member[] {
  const dated: Member[] = [];
  const byTime: Member[] = [];
  const untouched: Member[] = [];
  const numbered = new Map<BytePath, Member[]>();
  for (const sibling of siblings) {
    const { kind } = sibling.rank;
    if (kind === "date") dated.push(sibling);
    else if (kind === "modified") byTime.push(sibling);
    else if (kind === "none") untouched.push(sibling);
    else {
      const folder = folderOf(sibling.name);
      const sequence = numbered.get(folder) ?? [];
      numbered.set(folder, sequence);
      sequence.push(sibling);
    }
  }
  const inOrder = (a: Member, b: Member) => compareRanks(a.rank, b.rank) || compareTies(a, b, modifiedMs);
  const sequences = [dated, byTime, ...numbered.values()].map((sequence) => sequence.sort(inOrder));
  return [...merge(sequences, ({ name }) => modifiedMs(name)), ...untouched.sort(inOrder)];
}

/** Of two ranks of one kind: negative where `a` is older. */
export function compareRanks(a: Rank, b: Rank): number {
  if (a.kind === "number" && b.kind === "number") return b.number - a.number;
  if (a.kind !== "date" || b.kind !== "date") return 0;
  for (let index = 0; index < Math.max(a.key.length, b.key.length); index += 1) {
    const difference = (a.key[index] ?? -1) - (b.key[index] ?? -1);
    if (difference !== 0) return difference;
  }
  return 0;
}

function compareTies(a: Sibling, b: Sibling, modifiedMs: ModifiedMs): number {
  if (a.plainName === b.plainName) return Number(a.compression !== undefined) - Number(b.compression !== undefined);
  const difference = (modifiedMs(a.name) ?? 0) - (modifiedMs(b.name) ?? 0);
  return difference || (a.name < b.name ? -1 : 1);
}

/**
 * Sequences, each in its own order, into one by time. Of equal times the first sequence's comes first; what has no time
 * counts as older than anything in the first sequence, and as younger in the others.
 */
function merge<Item>(sequences: readonly (readonly Item[])[], timeOf: (item: Item) => number | undefined): Item[] {
  const filled = sequences.filter((items) => items.length > 0);
  if (filled.length <= 1) return [...(filled[0] ?? [])];
  const heads = filled.map((items) => {
    const unknown = items === sequences[0] ? Number.NEGATIVE_INFINITY : Number.POSITIVE_INFINITY;
    return { items, times: items.map((item) => timeOf(item) ?? unknown), next: 0 };
  });
  const merged: Item[] = [];
  for (;;) {
    let oldest: (typeof heads)[number] | undefined;
    for (const head of heads) {
      if (head.next === head.items.length) continue;
      if (oldest === undefined || head.times[head.next]! < oldest.times[oldest.next]!) oldest = head;
    }
    if (oldest === undefined) return merged;
    merged.push(oldest.items[oldest.next]!);
    oldest.next += 1;
  }
}
