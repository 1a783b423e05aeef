// A bounded channel: four senders, one receiver, and nobody runs ahead of the slowest.
import { channel } from "tailrace";

const { sender, receiver } = channel({ capacity: 2 });

const send = async (name, own) => {
  for (let number = 1; number <= 3; number += 1) await own.send(`${name} ${number}`);
  own.close();
};
const senders = ["a", "b", "c", "d"].map((name) => send(name, sender.clone()));
// The last sender that closes ends the loop below.
sender.close();

let received = 0;
for await (const text of receiver) {
  console.log(text);
  received += 1;
}
await Promise.all(senders);
const { sent, dropped } = receiver.counters();
console.log(`${sent} sent, ${received} received, ${dropped.policy + dropped.closed} dropped`);
