// The live protocol, without a browser: what comes in is text, what goes out is text, time is a number.
import assert from "node:assert/strict";
import { test } from "node:test";
import * as query from "../../src/http/ui/query.js";
import { STALE_MS, STATUSES, Store, isNewer } from "../../src/http/ui/store.js";

const counts = (change = {}) => ({ ...Object.fromEntries(STATUSES.map((status) => [status, 0])), ...change });
const none = { succeeded: 0, failed: 0, cancelled: 0 };

function world() {
  const w = { now: 1_000_000, timers: new Set(), sockets: [], heard: [], random: 0 };
  const io = {
    now: () => w.now,
    random: () => w.random,
    after(ms, f) {
      const timer = { at: w.now + ms, f };
      w.timers.add(timer);
      return () => w.timers.delete(timer);
    },
    connect(on, owner) {
      const socket = { on, owner, sent: [], closed: false, send: (text) => socket.sent.push(JSON.parse(text)), close: () => (socket.closed = true) };
      w.sockets.push(socket);
      return socket;
    },
  };
  w.store = new Store(io);
  w.store.listen((kind) => w.heard.push(kind));
  w.pass = (ms) => {
    const end = w.now + ms;
    for (;;) {
      const next = [...w.timers].filter(({ at }) => at <= end).sort((a, b) => a.at - b.at)[0];
      if (!next) break;
      w.timers.delete(next);
      w.now = Math.max(w.now, next.at);
      next.f();
    }
    w.now = end;
  };
  w.socket = () => w.sockets.at(-1);
  w.say = (frame) => w.socket().on.text(JSON.stringify(frame));
  w.hello = (epoch = "e1", position = 7) => {
    w.socket().on.open();
    w.say({ type: "hello", epoch, position, time: new Date(w.now + 500).toISOString() });
    w.say({ type: "snapshot", position, counts: counts({ running: 2 }), unseen: none, seen: 0 });
  };
  w.store.start();
  return w;
}

test("nothing is known before the first snapshot, and never zeroes", () => {
  const w = world();
  assert.equal(w.store.state.counts, null);
  assert.equal(w.store.state.connection, "connecting");
  w.hello();
  assert.equal(w.store.state.connection, "live");
  assert.equal(w.store.state.counts.running, 2);
});

test("counters are taken in sequence", () => {
  const w = world();
  w.hello();
  w.say({ type: "counters", previous: 7, position: 9, counts: counts({ running: 3 }), unseen: none, seen: 0 });
  assert.equal(w.store.state.counts.running, 3);
  assert.equal(w.store.state.position, 9);
});

test("a gap is never applied: one resync is asked, and the snapshot that answers it counts", () => {
  const w = world();
  w.hello();
  w.say({ type: "counters", previous: 8, position: 9, counts: counts({ running: 99 }), unseen: none, seen: 0 });
  w.say({ type: "counters", previous: 9, position: 10, counts: counts({ running: 98 }), unseen: none, seen: 0 });
  assert.equal(w.store.state.counts.running, 2);
  assert.deepEqual(w.socket().sent, [{ type: "resync" }]);
  w.say({ type: "snapshot", position: 10, counts: counts({ running: 5 }), unseen: none, seen: 0 });
  w.say({ type: "counters", previous: 10, position: 11, counts: counts({ running: 6 }), unseen: none, seen: 0 });
  assert.equal(w.store.state.counts.running, 6);
});

test("a beat keeps the connection alive and doesn't move the position", () => {
  const w = world();
  w.hello();
  for (let i = 0; i < 10; i++) {
    w.pass(15_000);
    w.say({ type: "beat", position: 12, time: new Date(w.now).toISOString() });
  }
  assert.equal(w.store.state.connection, "live");
  assert.equal(w.store.state.position, 7);
});

test("twenty silent seconds are stale, since the last frame; the numbers stay", () => {
  const w = world();
  w.hello();
  const heard = w.now;
  w.pass(STALE_MS - 1);
  assert.equal(w.store.state.connection, "live");
  w.pass(1);
  assert.equal(w.store.state.connection, "stale");
  assert.equal(w.store.state.since, heard);
  assert.equal(w.store.state.counts.running, 2);
  assert.ok(w.socket().closed);
});

test("a cut is said at once, becomes stale, and ends with the next snapshot, after which all is read again", () => {
  const w = world();
  w.hello();
  w.socket().on.close();
  assert.equal(w.store.state.connection, "reconnecting");
  w.pass(STALE_MS);
  assert.equal(w.store.state.connection, "stale");
  w.heard.length = 0;
  w.hello("e1", 20);
  assert.equal(w.store.state.connection, "live");
  assert.equal(w.store.state.since, null);
  assert.ok(w.heard.includes("reset"));
});

test("a socket that is ended because its caller must be named again is replaced without a word, and all is read again", () => {
  const w = world();
  w.hello();
  w.heard.length = 0;
  w.socket().on.close(true);
  assert.deepEqual([w.store.state.connection, w.store.state.counts.running, w.heard], ["live", 2, []]);
  w.pass(1000);
  assert.equal(w.sockets.length, 2);
  w.hello("e1", 9);
  assert.deepEqual([w.store.state.connection, w.store.state.position], ["live", 9]);
  assert.ok(w.heard.includes("reset"), "what has happened between the two sockets is read");

  w.socket().on.close(true);
  w.pass(1000);
  w.socket().on.close(true);
  assert.equal(w.store.state.connection, "reconnecting", "the second close in a row is said, whatever its reason");
  w.pass(1000);
  w.hello("e1", 10);
  w.socket().on.close(true);
  w.pass(1000);
  w.socket().on.close();
  assert.equal(w.store.state.connection, "reconnecting", "the server doesn't accept the caller again");
});

test("numbers that the server calls stale are stale since then, by the clock here, until it takes that back", () => {
  const w = world();
  w.hello();
  const lost = w.now;
  w.pass(3000);
  const beat = (more) => w.say({ type: "beat", position: 7, time: new Date(w.now + 500).toISOString(), ...more });
  const stale_since = new Date(lost + 500).toISOString();
  beat({ stale_since });
  assert.deepEqual([w.store.state.connection, w.store.state.since], ["stale", lost]);
  w.say({ type: "snapshot", position: 7, counts: counts({ running: 2 }), unseen: none, seen: 0 });
  assert.deepEqual([w.store.state.connection, w.store.state.since], ["stale", lost]);
  beat({});
  assert.deepEqual([w.store.state.connection, w.store.state.since], ["live", null]);
});

test("a server that says in its first frame that it is stale is not shown as live", () => {
  const w = world();
  const lost = w.now;
  w.socket().on.open();
  const time = new Date(w.now + 500).toISOString();
  w.say({ type: "hello", epoch: "e1", position: 0, time, stale_since: time });
  w.say({ type: "snapshot", position: 0, counts: counts(), unseen: none, seen: 0 });
  assert.deepEqual([w.store.state.connection, w.store.state.since], ["stale", lost]);
});

test("the back-off grows, is spread, is bounded, and starts anew after a snapshot", () => {
  const waits = (random) => {
    const w = world();
    w.random = random;
    return Array.from({ length: 9 }, () => {
      const before = w.sockets.length;
      w.socket().on.close();
      const from = w.now;
      while (w.sockets.length === before) w.pass(1);
      return w.now - from;
    });
  };
  const [low, high] = [waits(0), waits(0.999)];
  assert.deepEqual(low.slice(0, 4), [125, 250, 500, 1000]);
  assert.ok(high.every((ms, i) => ms > low[i] && ms <= 10_000), String(high));
  const w = world();
  for (let i = 0; i < 5; i++) {
    w.socket().on.close();
    w.pass(10_000);
  }
  w.hello();
  w.socket().on.close();
  const before = w.sockets.length;
  w.pass(250);
  assert.equal(w.sockets.length, before + 1);
});

test("another epoch forgets everything", () => {
  const w = world();
  w.hello("e1", 50);
  w.socket().on.close();
  w.pass(300);
  w.socket().on.open();
  w.heard.length = 0;
  w.say({ type: "hello", epoch: "e2", position: 3, time: new Date(w.now).toISOString() });
  assert.equal(w.store.state.counts, null);
  assert.deepEqual(w.heard, ["state", "reset"]);
  w.say({ type: "snapshot", position: 3, counts: counts(), unseen: none, seen: 0 });
  assert.equal(w.store.state.position, 3);
});

test("waking up reconnects at once, or asks for a snapshot", () => {
  const w = world();
  w.hello();
  w.store.wake();
  assert.deepEqual(w.socket().sent.at(-1), { type: "resync" });
  w.now += 3_600_000;
  const before = w.sockets.length;
  w.store.wake();
  assert.equal(w.store.state.connection, "stale");
  assert.equal(w.sockets.length, before + 1);
});

test("a late frame of a socket that was given up changes nothing", () => {
  const w = world();
  w.hello();
  const old = w.socket();
  w.pass(STALE_MS + 300);
  old.on.text(JSON.stringify({ type: "counters", previous: 7, position: 8, counts: counts({ running: 1 }), unseen: none, seen: 0 }));
  old.on.close();
  assert.equal(w.store.state.position, 7);
});

test("one socket carries one filter: the one asked for, or all where two differ", () => {
  const w = world();
  w.hello();
  const frames = [];
  const offList = w.store.subscribe({ status: "failed" }, (kind) => frames.push(`list ${kind}`));
  const offBell = w.store.subscribe({}, (kind) => frames.push(`bell ${kind}`));
  offBell();
  offList();
  assert.deepEqual(w.socket().sent, [
    { type: "subscribe", filter: { status: "failed" } },
    { type: "subscribe", filter: {} },
    { type: "subscribe", filter: { status: "failed" } },
    { type: "unsubscribe" },
  ]);
});

test("with another owner the former counts are dropped at once, and a socket for that owner is opened", () => {
  const w = world();
  w.hello();
  const former = w.socket();
  assert.equal(former.owner, null);
  w.store.subscribe({ owner: "ann" }, () => {});
  w.store.setOwner("ann");
  const { connection, counts: shown, unseen, position } = w.store.state;
  assert.deepEqual([connection, shown, unseen, position], ["connecting", null, null, null]);
  assert.deepEqual([w.sockets.length, former.closed, w.socket().owner], [2, true, "ann"]);
  assert.deepEqual(w.heard.slice(-2), ["state", "owner"]);
  former.on.text(JSON.stringify({ type: "counters", previous: 7, position: 8, counts: counts({ running: 99 }), unseen: none, seen: 0 }));
  former.on.close();
  assert.equal(w.store.state.counts, null, "a late frame of the former socket");
  w.hello("e1", 9);
  assert.deepEqual([w.store.state.connection, w.store.state.position], ["live", 9]);
  assert.deepEqual(w.socket().sent, [{ type: "subscribe", filter: { owner: "ann" } }]);
  w.store.setOwner("ann");
  assert.equal(w.sockets.length, 2, "the same owner changes nothing");
});

test("an owner that is chosen while the connection is lost is asked for at once; before the start nothing connects", () => {
  const w = world();
  w.hello();
  w.socket().on.close();
  w.store.setOwner("*");
  assert.deepEqual(w.sockets.map(({ owner }) => owner), [null, "*"]);
  const sockets = [];
  const store = new Store({ now: () => 0, random: () => 0, after: () => () => {}, connect: (on, owner) => (sockets.push(owner), { send() {}, close() {} }) });
  store.setOwner("bob");
  assert.deepEqual(sockets, []);
  store.start();
  assert.deepEqual(sockets, ["bob"]);
});

test("different filters of one owner become all tasks of that owner; with ids, all that the caller may see", () => {
  const w = world();
  w.hello();
  w.store.subscribe({ owner: "ann", status: "failed" }, () => {});
  const off = w.store.subscribe({ owner: "ann" }, () => {});
  off();
  w.store.subscribe({ ids: ["a"] }, () => {});
  w.store.allowEveryone();
  assert.deepEqual(w.socket().sent.map(({ filter }) => filter), [{ owner: "ann", status: "failed" }, { owner: "ann" }, { owner: "ann", status: "failed" }, {}, { owner: "*" }]);
});

test("a subscription that was asked before the socket was open is asked again on it", () => {
  const w = world();
  w.hello();
  w.socket().on.close();
  w.pass(1000);
  w.store.subscribe({ kind: "a" }, () => {});
  w.socket().sent.length = 0; // A socket that isn't open sends nothing.
  w.hello();
  assert.deepEqual(w.socket().sent, [{ type: "subscribe", filter: { kind: "a" } }]);
});

test("a subscription is asked again on a new socket", () => {
  const w = world();
  w.store.subscribe({ ids: ["a"] }, () => {});
  assert.deepEqual(w.socket().sent, []);
  w.hello();
  assert.deepEqual(w.socket().sent, [{ type: "subscribe", filter: { ids: ["a"] } }]);
  w.socket().on.close();
  w.pass(300);
  w.hello();
  assert.deepEqual(w.socket().sent, [{ type: "subscribe", filter: { ids: ["a"] } }]);
});

test("the server's clock is known, and its jumps are followed", () => {
  const w = world();
  w.hello();
  assert.equal(w.store.serverNow(), w.now + 500);
  w.say({ type: "beat", position: 7, time: new Date(w.now + 300).toISOString() });
  assert.equal(w.store.serverNow(), w.now + 500);
  w.say({ type: "beat", position: 7, time: new Date(w.now - 60_000).toISOString() });
  assert.equal(w.store.serverNow(), w.now - 60_000);
});

test("nonsense on the wire is passed over", () => {
  const w = world();
  w.hello();
  w.socket().on.text("{");
  w.say({ type: "something new" });
  assert.equal(w.store.state.connection, "live");
});

test("of two states of a task the later revision wins, then the later progress", () => {
  const at = (revision, time) => ({ revision, progress: time && { at: time } });
  assert.ok(isNewer(at(2), at(1)));
  assert.ok(!isNewer(at(1, "2026-01-02"), at(2)));
  assert.ok(isNewer(at(2, "2026-01-02"), at(2, "2026-01-01")));
  assert.ok(!isNewer(at(2, "2026-01-01"), at(2, "2026-01-02")));
});

test("filters survive the way through the URL; what isn't ours is left out", () => {
  const params = query.parse("?status=failed,running,nonsense&q=two+words&label=a:1&label=b:2&limit=50&limit=3&cursor=xyz&evil=1");
  assert.equal(query.url(params), "/?status=running,failed&q=two+words&label=a%3A1&label=b%3A2&limit=50&cursor=xyz");
  assert.equal(query.url(query.parse(query.url(params).slice(1))), query.url(params));
  assert.equal(query.url(query.toggleStatus(params, "failed", false)), "/?status=running&q=two+words&label=a%3A1&label=b%3A2&limit=50");
  assert.equal(query.url(query.without(query.parse("?label=a:1&label=b:2"), "label", "a:1")), "/?label=b%3A2");
  assert.deepEqual(query.subscription(params), { status: "running,failed" });
  assert.equal(query.url(query.parse("?owner=*&kind=a")), "/?kind=a&owner=*");
  assert.equal(query.url(query.parse("?owner=ann,bob&kind=a")), "/?kind=a", "several owners have no bell");
  assert.deepEqual(query.subscription(query.parse("?owner=*")), { owner: "*" });
  assert.deepEqual(["/", "/?status=failed", "/?owner=bob"].map((address) => query.withOwner(address, "a b")), ["/?owner=a+b", "/?status=failed&owner=a+b", "/?owner=bob"]);
  assert.equal(query.withOwner("/tasks/1", null), "/tasks/1");
});

test("a stopped store forgets what it has received, connects no more, and begins anew when it is started", () => {
  const w = world();
  w.store.start();
  const first = w.socket();
  first.on.open();
  w.say({ type: "hello", epoch: "e1", time: "2026-01-01T00:00:00.000000Z" });
  w.say({ type: "snapshot", position: 5, counts: counts({ queued: 3 }), unseen: none, seen: 0 });
  assert.equal(w.store.state.connection, "live");
  w.store.stop();
  assert.ok(first.closed);
  first.on.close();
  w.pass(10 * STALE_MS);
  w.store.wake();
  w.pass(10 * STALE_MS);
  assert.equal(w.sockets.length, 1);
  assert.deepEqual([w.store.state.connection, w.store.state.counts, w.store.state.position], ["connecting", null, null]);
  w.store.start();
  assert.equal(w.sockets.length, 2);
  w.say({ type: "hello", epoch: "e1", time: "2026-01-01T00:00:00.000000Z" });
  w.say({ type: "snapshot", position: 6, counts: counts(), unseen: none, seen: 0 });
  assert.equal(w.store.state.connection, "live");
});
