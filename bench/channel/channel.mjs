// What a channel costs, beside other queues: `npm run build`, then `node bench/channel/channel.mjs`.
//
// Words after it choose cases by name; ITEMS=n changes the length of a run, ROUNDS=n their number. Cases take turns round
// by round, so that all meet the same machine; the figure is the median by processor time of this process, which another
// one that takes the machine away does not change. Trust the ratios. Results and what was learned of them:
// docs/guide/sizing-channels.md.
//
// Parts: our own cases; the same with a ChannelMonitor that watches; other queues (peers.mjs); allocation (ALLOCATION=1
// alone): bytes and garbage collections per million messages, in steady state.
import { PerformanceObserver } from "node:perf_hooks";
import { ChannelMonitor, ChannelRegistry, channel, machineClock } from "../../dist/channel/index.js";
import { loadPeers } from "./peers.mjs";

const ITEMS = Number(process.env["ITEMS"] ?? 1_000_000);
const ROUNDS = Number(process.env["ROUNDS"] ?? 9);

/** Names and what runs `items` items through channels that `make` makes. */
const cases = {
  "trySend + tryRecv": (items, make) => {
    const { sender, receiver } = make({ capacity: 1024 });
    let sum = 0;
    for (let sent = 0; sent < items; ) {
      for (let burst = 0; burst < 512; burst += 1, sent += 1) sender.trySend(sent);
      for (let burst = 0; burst < 512; burst += 1) sum += receiver.tryRecv();
    }
    return close(sender, receiver, sum);
  },
  "trySend + tryRecv, weighed": (items, make) => {
    const { sender, receiver } = make({
      capacity: 1024,
      capacityBytes: 1 << 20,
      sizeOf: () => 64,
      recordsOf: () => 3,
    });
    let sum = 0;
    for (let sent = 0; sent < items; ) {
      for (let burst = 0; burst < 512; burst += 1, sent += 1) sender.trySend(sent);
      for (let burst = 0; burst < 512; burst += 1) sum += receiver.tryRecv();
    }
    return close(sender, receiver, sum);
  },
  "send + recv, awaiting only when one must": async (items, make) => {
    const { sender, receiver } = make({ capacity: 1024 });
    const producing = (async () => {
      for (let sent = 0; sent < items; sent += 1) if (sender.trySend(sent) !== "sent") await sender.send(sent);
      sender.close();
    })();
    let sum = 0;
    while (!receiver.closed) sum += receiver.tryRecv() ?? (await receiver.recv()) ?? 0;
    await producing;
    return sum;
  },
  "send + recv, awaiting always": async (items, make) => {
    const { sender, receiver } = make({ capacity: 1024 });
    const producing = (async () => {
      for (let sent = 0; sent < items; sent += 1) await sender.send(sent);
      sender.close();
    })();
    let sum = 0;
    for (let value = await receiver.recv(); value !== undefined; value = await receiver.recv()) sum += value;
    await producing;
    return sum;
  },
  "send + for await": async (items, make) => {
    const { sender, receiver } = make({ capacity: 1024 });
    const producing = (async () => {
      for (let sent = 0; sent < items; sent += 1) if (sender.trySend(sent) !== "sent") await sender.send(sent);
      sender.close();
    })();
    let sum = 0;
    for await (const value of receiver) sum += value;
    await producing;
    return sum;
  },
  "ping-pong over capacity 1": async (items, make) => {
    const there = make({ capacity: 1 });
    const back = make({ capacity: 1 });
    const answering = (async () => {
      for (let value = await there.receiver.recv(); value !== undefined; value = await there.receiver.recv()) {
        if (back.sender.trySend(value) !== "sent") await back.sender.send(value);
      }
      back.sender.close();
    })();
    let sum = 0;
    for (let sent = 0; sent < items / 2; sent += 1) {
      if (there.sender.trySend(sent) !== "sent") await there.sender.send(sent);
      sum += await back.receiver.recv();
    }
    there.sender.close();
    await answering;
    return sum;
  },
  "ping-pong, awaiting always": async (items, make) => {
    const there = make({ capacity: 1 });
    const back = make({ capacity: 1 });
    const answering = (async () => {
      for (let value = await there.receiver.recv(); value !== undefined; value = await there.receiver.recv()) {
        await back.sender.send(value);
      }
      back.sender.close();
    })();
    let sum = 0;
    for (let sent = 0; sent < items / 2; sent += 1) {
      await there.sender.send(sent);
      sum += await back.receiver.recv();
    }
    there.sender.close();
    await answering;
    return sum;
  },
  "send + recvMany(256)": async (items, make) => {
    const { sender, receiver } = make({ capacity: 1024 });
    const producing = (async () => {
      for (let sent = 0; sent < items; sent += 1) if (sender.trySend(sent) !== "sent") await sender.send(sent);
      sender.close();
    })();
    let sum = 0;
    for (let values = await receiver.recvMany(256); values.length > 0; values = await receiver.recvMany(256)) {
      for (const value of values) sum += value;
    }
    await producing;
    return sum;
  },
  "4 senders -> 1 receiver": async (items, make) => {
    const { sender, receiver } = make({ capacity: 1024 });
    const producing = [0, 1, 2, 3].map(async () => {
      const own = sender.clone();
      for (let sent = 0; sent < items / 4; sent += 1) if (own.trySend(sent) !== "sent") await own.send(sent);
      own.close();
    });
    sender.close();
    let sum = 0;
    while (!receiver.closed) sum += receiver.tryRecv() ?? (await receiver.recv()) ?? 0;
    await Promise.all(producing);
    return sum;
  },
  "4 senders -> recvMany(256)": async (items, make) => {
    const { sender, receiver } = make({ capacity: 1024 });
    const producing = [0, 1, 2, 3].map(async () => {
      const own = sender.clone();
      for (let sent = 0; sent < items / 4; sent += 1) if (own.trySend(sent) !== "sent") await own.send(sent);
      own.close();
    });
    sender.close();
    let sum = 0;
    for (let values = await receiver.recvMany(256); values.length > 0; values = await receiver.recvMany(256)) {
      for (const value of values) sum += value;
    }
    await Promise.all(producing);
    return sum;
  },
};

function close(sender, receiver, sum) {
  sender.close();
  receiver.close();
  return sum;
}

/** Processor seconds of one run. */
async function measure(run) {
  const before = process.cpuUsage();
  await run();
  const { user, system } = process.cpuUsage(before);
  return (user + system) / 1e6;
}

const median = (numbers) => numbers.toSorted((one, other) => one - other)[numbers.length >> 1];
const rate = (seconds) => `${(ITEMS / median(seconds) / 1e6).toFixed(2).padStart(8)} M items/s`;

/** Seconds of every run, by name; the runs take turns. */
async function inTurns(runs) {
  const seconds = Object.fromEntries(Object.keys(runs).map((name) => [name, []]));
  for (const run of Object.values(runs)) await run(ITEMS / 10);
  for (let round = 0; round < ROUNDS; round += 1)
    for (const [name, run] of Object.entries(runs)) seconds[name].push(await measure(() => run(ITEMS)));
  return seconds;
}

/** Makes channels that a running monitor watches. */
function watched() {
  const registry = new ChannelRegistry();
  const log = { warn() {}, info() {} };
  const monitor = new ChannelMonitor({ registry, clock: machineClock, log, warningThreshold: 0.8 });
  monitor.start();
  let number = 0;
  return {
    monitor,
    make(options) {
      number += 1;
      return registry.create({ component: "bench", channel: String(number), why: "bench", ...options });
    },
    forget() {
      for (const { component, channel: name } of registry.list()) registry.remove(component, name);
    },
  };
}

async function ownCases(wanted) {
  console.log("# Own cases, without and with a monitor (cost of the monitor in brackets)");
  const { monitor, make, forget } = watched();
  for (const [name, run] of Object.entries(cases)) {
    if (!wanted(name)) continue;
    const seconds = await inTurns({
      off: (items) => run(items, channel),
      on: async (items) => {
        await run(items, make);
        forget();
      },
    });
    const ratios = seconds.on.map((on, round) => on / seconds.off[round]);
    const cost = `${((median(ratios) - 1) * 100).toFixed(1)} %`;
    console.log(`${name.padEnd(42)} ${rate(seconds.off)} ${rate(seconds.on)}  (${cost})`);
  }
  monitor.stop();
}

async function besidePeers(wanted) {
  const { found, missing } = await loadPeers();
  if (missing.length > 0) {
    console.log(`\n!! NOT COMPARED, because not installed: ${missing.join(", ")}`);
    console.log("!! npm install --no-save effect fastq async it-pushable");
  }
  const own = {
    batch: cases["send + recvMany(256)"],
    many: cases["4 senders -> recvMany(256)"],
    pingPong: cases["ping-pong over capacity 1"],
  };
  for (const [mode, run] of Object.entries(own)) {
    if (!wanted(mode)) continue;
    const peers = found.filter((peer) => peer[mode] !== undefined);
    const seconds = await inTurns({
      tailrace: (items) => run(items, channel),
      ...Object.fromEntries(peers.map((peer) => [peer.name, peer[mode]])),
    });
    console.log(`\n# ${mode}: beside others (how many times as fast Tailrace is)`);
    for (const [name, times] of Object.entries(seconds)) {
      const ratio = median(times.map((time, round) => time / seconds.tailrace[round]));
      console.log(`${name.padEnd(42)} ${rate(times)}  ${name === "tailrace" ? "" : `${ratio.toFixed(1)} x`}`);
    }
  }
}

/** In steady state nothing is allocated: all memory is there before, and no garbage collection runs. */
async function allocation() {
  let collections = 0;
  const observer = new PerformanceObserver((list) => {
    collections += list.getEntries().length;
  });
  observer.observe({ entryTypes: ["gc"] });
  console.log("# Allocation in steady state");
  for (const name of ["trySend + tryRecv", "trySend + tryRecv, weighed", "trySend + recvMany(256)"]) {
    const run = steady[name];
    run(2_000_000);
    await new Promise((resolve) => setTimeout(resolve, 50));
    collections = 0;
    const before = process.memoryUsage().heapUsed;
    run(ITEMS);
    const bytes = process.memoryUsage().heapUsed - before;
    await new Promise((resolve) => setTimeout(resolve, 50));
    const perMessage = collections === 0 ? `${(bytes / ITEMS).toFixed(3)} bytes a message` : "";
    console.log(`${name.padEnd(42)} ${ITEMS} messages: ${collections} garbage collections ${perMessage}`);
  }
  observer.disconnect();
}

const steady = steadyCases();

/** Channels that live through all runs. */
function steadyCases() {
  const plain = channel({ capacity: 1024 });
  const weighed = channel({ capacity: 1024, capacityBytes: 1 << 20, sizeOf: () => 64, recordsOf: () => 3 });
  const bursts = (items, { sender, receiver }) => {
    let sum = 0;
    for (let sent = 0; sent < items; ) {
      for (let burst = 0; burst < 512; burst += 1, sent += 1) sender.trySend(sent & 0xffff);
      for (let burst = 0; burst < 512; burst += 1) sum = (sum + receiver.tryRecv()) | 0;
    }
    return sum;
  };
  return {
    "trySend + tryRecv": (items) => bursts(items, plain),
    "trySend + tryRecv, weighed": (items) => bursts(items, weighed),
    "trySend + recvMany(256)": (items) => {
      for (let sent = 0; sent < items; sent += 256) {
        for (let burst = 0; burst < 256; burst += 1) plain.sender.trySend(burst);
        void plain.receiver.recvMany(256);
      }
    },
  };
}

const words = process.argv.slice(2);
const wanted = (name) => words.length === 0 || words.some((word) => name.includes(word));
if (process.env["ALLOCATION"] === undefined) {
  await ownCases(wanted);
  await besidePeers(wanted);
} else {
  await allocation();
}
