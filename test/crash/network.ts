import { spawnSync } from "node:child_process";
import type { TestContext } from "vitest";

/**
 * How the way between agent and server is cut:
 * - `link`: the cable is pulled, and the agent's machine knows it
 * - `silent`: what either sends vanishes, and nobody is told
 * - `requests`: what the agent sends vanishes
 * - `answers`: what the server sends vanishes; it does what it was asked to, and is not heard
 */
export type Cut = "link" | "silent" | "requests" | "answers";

/** Nobody has it (02: locally administered): frames that go there are dropped by who gets them, without a word. */
const NOBODY = "02:00:00:00:00:01";

const PATH = `${process.env["PATH"]}:/usr/sbin:/sbin`;

let made = 0;

/**
 * A network namespace for an agent, and a pair of virtual network cards between it and this machine, where the servers
 * listen on `address`. Gone with the end of the test, however that comes.
 *
 * ```
 *   this machine: address --[ card ]--------------[ card ]-- theirs: the namespace
 * ```
 */
export class Network {
  /** Where servers listen for what comes from the namespace. */
  readonly address: string;
  /** The command in front of an agent that is to live in the namespace. */
  readonly through: readonly string[];
  readonly #name: string;
  readonly #theirs: string;
  readonly #here: string;
  readonly #there: string;
  #cut: Cut | undefined;

  private constructor(name: string, number: number) {
    this.#name = name;
    this.through = ["ip", "netns", "exec", name];
    // 198.18.0.0/15 is set apart for tests (RFC 2544): a /30 for each pair.
    const base = ((198 << 24) | (18 << 16)) + (number % 2 ** 15) * 4;
    const text = (address: number) => [24, 16, 8, 0].map((bits) => (address >>> bits) & 255).join(".");
    this.address = text(base + 1);
    this.#theirs = text(base + 2);
    // The kernel takes 15 bytes.
    this.#here = `tr${process.pid}h${made}`;
    this.#there = `tr${process.pid}n${made}`;
  }

  /** Undefined where this process may not make one. */
  static make({ onTestFinished }: TestContext): Network | undefined {
    made += 1;
    const network = new Network(`tailrace-${process.pid}-${made}`, process.pid + made);
    if (spawnSync("ip", ["netns", "add", network.#name], { env: { ...process.env, PATH } }).status !== 0)
      return undefined;
    onTestFinished(() => network.#remove());
    network.#connect();
    return network;
  }

  #connect(): void {
    ip("link", "add", this.#here, "type", "veth", "peer", "name", this.#there, "netns", this.#name);
    ip("address", "add", `${this.address}/30`, "dev", this.#here);
    ip("link", "set", this.#here, "up");
    this.#inside("address", "add", `${this.#theirs}/30`, "dev", this.#there);
    this.#inside("link", "set", this.#there, "up");
  }

  /** From this moment on. */
  cut(how: Cut): void {
    this.#cut = how;
    // Theirs goes down, not ours: ours keeps its address, and the server what it listens on.
    if (how === "link") this.#inside("link", "set", this.#there, "down");
    if (how === "silent" || how === "requests")
      this.#inside("neigh", "replace", this.address, "lladdr", NOBODY, "dev", this.#there, "nud", "permanent");
    if (how === "silent" || how === "answers")
      ip("neigh", "replace", this.#theirs, "lladdr", NOBODY, "dev", this.#here, "nud", "permanent");
  }

  /** All that `cut` did is taken back; each asks anew who the other is. */
  mend(): void {
    const how = this.#cut;
    if (how === "link") this.#inside("link", "set", this.#there, "up");
    if (how === "silent" || how === "requests") this.#inside("neigh", "del", this.address, "dev", this.#there);
    if (how === "silent" || how === "answers") ip("neigh", "del", this.#theirs, "dev", this.#here);
    this.#cut = undefined;
  }

  #inside(...args: readonly string[]): void {
    ip("-n", this.#name, ...args);
  }

  /** The pair by itself: a namespace lives on while a process is in it. */
  #remove(): void {
    spawnSync("ip", ["link", "del", this.#here], { env: { ...process.env, PATH }, stdio: "ignore" });
    ip("netns", "del", this.#name);
  }
}

function ip(...args: readonly string[]): void {
  const run = spawnSync("ip", args, { encoding: "utf8", env: { ...process.env, PATH } });
  if (run.status !== 0) throw new Error(`ip ${args.join(" ")}: ${run.error ?? run.stderr}`);
}
