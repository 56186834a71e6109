// Reads and subscribes with the official Node client: node check.mjs ADDRESS STREAM
//
// The log holds three events: Queued and Started in STREAM, Queued in another stream. When "caught up" is printed, one more
// Queued is appended to STREAM. Prints "passed" at the end.

import assert from "node:assert/strict";
import {
  AccessDeniedError, BACKWARDS, END, FORWARDS, KurrentDBClient, START, StreamNotFoundError, jsonEvent, streamNameFilter,
} from "@kurrent/kurrentdb-client";

const [address, stream] = process.argv.slice(2);
const client = KurrentDBClient.connectionString`kurrentdb://${address}?tls=false`;

async function collect(reading) {
  const events = [];
  for await (const { event } of reading) events.push(event);
  return events;
}
const types = (events) => events.map((event) => event.type);
const positions = (events) => events.map((event) => Number(event.position.commit));

async function reads() {
  const events = await collect(client.readStream(stream, { direction: FORWARDS, fromRevision: START }));
  assert.deepEqual(types(events), ["Queued", "Started"]);
  assert.deepEqual(events.map((event) => Number(event.revision)), [0, 1]);
  assert.equal(events[0].data.reason, "run_at");
  assert.equal(events[0].metadata.actor, "ann");
  assert.ok(Math.abs(Date.now() - events[0].created) < 60_000, `created ${events[0].created}`);

  const last = await collect(client.readStream(stream, { direction: BACKWARDS, fromRevision: END, maxCount: 1 }));
  assert.deepEqual(types(last), ["Started"]);
  await assert.rejects(collect(client.readStream("task-missing")), StreamNotFoundError);

  const all = await collect(client.readAll({ direction: FORWARDS, fromPosition: START }));
  assert.deepEqual(positions(all), [1, 2, 3]);
  const back = await collect(client.readAll({ direction: BACKWARDS, fromPosition: END, maxCount: 2 }));
  assert.deepEqual(positions(back), [3, 2]);
}

async function subscribe() {
  const seen = [];
  const filter = streamNameFilter({ prefixes: [stream] });
  const subscription = client.subscribeToAll({ fromPosition: START, filter });
  subscription.on("caughtUp", () => console.log("caught up"));
  for await (const { event } of subscription) {
    seen.push(event.type);
    if (seen.length === 3) break;
  }
  assert.deepEqual(seen, ["Queued", "Started", "Queued"]);
}

async function refusedWrite() {
  await assert.rejects(client.appendToStream(stream, jsonEvent({ type: "Mine", data: {} })), AccessDeniedError);
}

await reads();
await refusedWrite();
await subscribe();
await client.dispose();
console.log("passed");
process.exit(0);
