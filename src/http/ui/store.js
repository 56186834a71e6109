// The live protocol of `GET /v1/live`, as a pure state machine: no DOM, no clock, no socket of its own.
// What it shows is true or is said to be old: counters are taken only in sequence, and silence is noticed.

export const STATUSES = ["scheduled", "queued", "running", "cancelling", "retrying", "succeeded", "failed", "cancelled"];
export const FINAL = new Set(["succeeded", "failed", "cancelled"]);

/** Without any frame for this long, the numbers are stale. The server beats at least every 15 s. */
export const STALE_MS = 20_000;
const BACK_OFF_MS = { first: 250, most: 10_000 };

/** Whether `next` says more of a task than `known` does. Progress changes no revision. */
export function isNewer(next, known) {
  if (!known || next.revision !== known.revision) return !known || next.revision > known.revision;
  return (next.progress?.at ?? "") >= (known.progress?.at ?? "");
}

const canonical = (filter) => JSON.stringify(Object.entries(filter).sort(([a], [b]) => (a < b ? -1 : 1)));

export class Store {
  #io;
  #socket = null;
  #retry = null;
  #watch = null;
  #attempts = 0;
  #heard = null;
  #opened = 0;
  #listeners = new Set();
  #subscriptions = new Map();
  #asked = null;
  #resyncing = false;
  /** Since when the server itself lacks what is new, in milliseconds of its clock; null while it doesn't. */
  #behind = null;

  /** Nothing is known before the first snapshot: `counts` is null then, never zeroes. */
  state = { link: "connecting", since: null, epoch: null, position: null, counts: null, unseen: null, seen: null, offset: 0 };

  /** `io`: connect(on {open, text, close}) → {send, close}; now(); after(ms, f) → cancel(); random(). */
  constructor(io) {
    this.#io = io;
  }

  /** Connects, if that is not done yet. */
  start() {
    if (!this.#socket && !this.#retry) this.#connect();
  }

  /** `listener(kind, frame)`: "state", "reset" (all that is known may be wrong), "tasks", "tasks_changed". */
  listen(listener) {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** Asks for changes of tasks that match `filter`; one socket carries one filter, so several become "all". */
  subscribe(filter, listener) {
    const key = {};
    this.#subscriptions.set(key, { filter, listener });
    this.#sendSubscription();
    return () => {
      this.#subscriptions.delete(key);
      this.#sendSubscription();
    };
  }

  /** The machine woke up, or the network came back: do not wait for a timer to notice. */
  wake() {
    this.#checkSilence();
    if (this.#retry) {
      this.#retry();
      this.#connect();
    } else if (this.state.link === "live") this.#resync();
  }

  /** The server's time, as well as it is known here. */
  serverNow() {
    return this.#io.now() + this.state.offset;
  }

  #connect() {
    this.#retry = null;
    const socket = this.#io.connect({
      open: () => socket === this.#socket && this.#hear(),
      text: (text) => socket === this.#socket && this.#frame(text),
      close: () => socket === this.#socket && this.#lost(),
    });
    this.#socket = socket;
    this.#opened = this.#io.now();
    this.#asked = null;
    this.#arm();
  }

  #lost() {
    this.#socket = null;
    this.#resyncing = false;
    this.#asked = null;
    const ceiling = Math.min(BACK_OFF_MS.most, BACK_OFF_MS.first * 2 ** this.#attempts);
    this.#attempts += 1;
    this.#retry = this.#io.after(ceiling * (0.5 + this.#io.random() / 2), () => this.#connect());
    if (this.state.link === "live") this.#set({ link: "reconnecting", since: this.#heard });
    this.#arm();
  }

  #hear() {
    this.#heard = this.#io.now();
    this.#arm();
  }

  #arm() {
    this.#watch?.();
    const now = this.#io.now();
    const due = [this.#heard ?? now, this.#opened].map((at) => at + STALE_MS - now).filter((left) => left > 0);
    this.#watch = this.#io.after(due.length ? Math.min(...due) : STALE_MS, () => this.#checkSilence());
  }

  /** What is shown ages from the last frame; a socket is given up when it brought none in all that time. */
  #checkSilence() {
    const old = (since) => this.#io.now() - since >= STALE_MS;
    if (this.#heard !== null && old(this.#heard) && this.state.counts && this.state.link !== "stale") {
      this.#set({ link: "stale", since: this.#heard });
    }
    if (this.#socket && old(Math.max(this.#heard ?? 0, this.#opened))) {
      const socket = this.#socket;
      this.#lost();
      socket.close();
    }
    this.#arm();
  }

  #frame(text) {
    let frame;
    try {
      frame = JSON.parse(text);
    } catch {
      return;
    }
    this.#hear();
    switch (frame.type) {
      case "hello": return this.#hello(frame);
      case "snapshot": return this.#snapshot(frame);
      case "counters": return this.#counters(frame);
      case "beat":
        this.#clock(frame.time, false);
        return this.#freshness(frame);
      case "tasks":
      case "tasks_changed":
      case "subscribed": return this.#deliver(frame);
    }
  }

  #hello({ epoch, time, stale_since }) {
    const other = this.state.epoch !== null && this.state.epoch !== epoch;
    this.#clock(time, true);
    this.#behind = stale_since ? Date.parse(stale_since) : null;
    if (other) {
      this.#set({ epoch, position: null, counts: null, unseen: null, seen: null, link: "connecting" });
      this.#emit("reset");
    } else this.state.epoch = epoch;
    this.#sendSubscription();
  }

  #snapshot({ position, counts, unseen, seen }) {
    this.#resyncing = false;
    this.#attempts = 0;
    const back = this.state.link !== "live" && this.state.counts !== null;
    this.#set({ ...this.#link(), position, counts, unseen, seen });
    if (back) this.#emit("reset");
  }

  /** The server has lost the log, or has it again: what it shows is stale in between. */
  #freshness({ stale_since }) {
    const was = this.#behind;
    this.#behind = stale_since ? Date.parse(stale_since) : null;
    if (was !== this.#behind && this.state.counts) this.#set(this.#link());
  }

  /** The link while frames arrive. */
  #link() {
    return this.#behind === null ? { link: "live", since: null } : { link: "stale", since: this.#behind - this.state.offset };
  }

  #counters({ previous, position, counts, unseen, seen }) {
    if (this.#resyncing) return;
    if (previous !== this.state.position) return this.#resync();
    this.#set({ position, counts, unseen, seen });
  }

  #resync() {
    this.#resyncing = true;
    this.#send({ type: "resync" });
  }

  /** A frame is never early, so of several readings the largest is the least wrong; a jump of the clock starts anew. */
  #clock(time, anew) {
    const sample = Date.parse(time) - this.#io.now();
    if (Number.isNaN(sample)) return;
    const jump = Math.abs(sample - this.state.offset) > 2000;
    this.state.offset = anew || jump ? sample : Math.max(this.state.offset, sample);
  }

  #sendSubscription() {
    if (!this.#socket || this.#heard === null || this.state.epoch === null) return;
    const filters = new Map([...this.#subscriptions.values()].map(({ filter }) => [canonical(filter), filter]));
    const filter = filters.size === 0 ? null : filters.size === 1 ? [...filters.values()][0] : {};
    const asked = filter && canonical(filter);
    if (asked === this.#asked) {
      // Whoever came later hears it too: its first read may lie before the subscription took effect.
      if (filter) this.#io.after(0, () => this.#deliver({ type: "subscribed", position: this.state.position ?? 0 }));
      return;
    }
    this.#asked = asked;
    this.#send(filter ? { type: "subscribe", filter } : { type: "unsubscribe" });
  }

  #deliver(frame) {
    for (const { listener } of [...this.#subscriptions.values()]) listener(frame.type, frame);
  }

  #send(message) {
    this.#socket?.send(JSON.stringify(message));
  }

  #set(change) {
    Object.assign(this.state, change);
    this.#emit("state");
  }

  #emit(kind) {
    for (const listener of [...this.#listeners]) listener(kind, this.state);
  }
}
