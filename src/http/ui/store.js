// The client side of the protocol of `GET /v1/live`, as a pure state machine: the DOM, the clock and the socket are passed in.
// Counters are accepted only in sequence. If no frame arrives for too long, the state is marked as stale.

export const STATUSES = ["scheduled", "queued", "running", "cancelling", "retrying", "succeeded", "failed", "cancelled"];
export const FINAL = new Set(["succeeded", "failed", "cancelled"]);

/** If no frame arrives for this long, the counts are stale. The server sends a frame at least every 15 s. */
export const STALE_MS = 20_000;
const BACK_OFF_MS = { first: 250, max: 10_000 };

/** Whether `next` is a newer state of the task than `known`. For the same revision, the time of the progress decides. */
export function isNewer(next, known) {
  if (!known || next.revision !== known.revision) return !known || next.revision > known.revision;
  return (next.progress?.at ?? "") >= (known.progress?.at ?? "");
}

/** The filter as text that doesn't depend on the order of its fields. */
const canonical = (filter) => JSON.stringify(Object.entries(filter).sort(([a], [b]) => (a < b ? -1 : 1)));

export class Store {
  #io;
  #socket = null;
  #cancelReconnect = null;
  #cancelSilenceTimer = null;
  #attempts = 0;
  #lastFrameAt = null;
  #connectStartedAt = 0;
  #listeners = new Set();
  #subscriptions = new Map();
  #sentSubscription = null;
  #isResyncing = false;
  /** The server has ended a socket whose credential it wants to see again. Until the next snapshot, nobody needs to know. */
  #isRenewing = false;
  /** Whose tasks the bell counts: one owner, "*" for everyone, or null for the caller's default. */
  #owner = null;
  /** The subscription that includes every other one of this caller. */
  #everything = {};
  /** Since when the server's own views are stale, in milliseconds of its clock; null while they are not. */
  #staleSince = null;

  /** Before the first snapshot `counts` is null and not zeroes. */
  state = { connection: "connecting", since: null, epoch: null, position: null, counts: null, unseen: null, seen: null, offset: 0 };

  /** `io`: connect(on {open, text, close(isRenewal)}, owner) → {send, close}; now(); after(ms, f) → cancel(); random(). */
  constructor(io) {
    this.#io = io;
  }

  /** Closes the connection, and forgets what was received. */
  stop() {
    const socket = this.#socket;
    this.#socket = null;
    this.#cancelReconnect?.();
    this.#cancelReconnect = null;
    this.#cancelSilenceTimer?.();
    this.#isResyncing = this.#isRenewing = false;
    this.#lastFrameAt = null;
    this.#attempts = 0;
    socket?.close();
    this.#set({ connection: "connecting", since: null, epoch: null, position: null, counts: null, unseen: null, seen: null });
  }

  /** Connects unless there is already a connection or an attempt to connect. */
  start() {
    if (!this.#socket && !this.#cancelReconnect) this.#connect();
  }

  get owner() {
    return this.#owner;
  }

  /** From now on the bell counts the tasks of this owner. The counts of the former one are dropped at once. */
  setOwner(owner) {
    if (owner === this.#owner) return;
    this.#owner = owner;
    const socket = this.#socket;
    const isStarted = socket !== null || this.#cancelReconnect !== null;
    this.#cancelReconnect?.();
    this.#isResyncing = false;
    this.#attempts = 0;
    if (isStarted) this.#connect();
    socket?.close();
    this.#set({ connection: "connecting", since: null, position: null, counts: null, unseen: null, seen: null });
    this.#emit("owner");
  }

  /** Says that the caller may see the tasks of everyone. */
  allowEveryone() {
    this.#everything = { owner: "*" };
    this.#sendSubscription();
  }

  /** Calls `listener(change, state)` after each change. `change` is "state", "owner" if the tasks of another owner are shown, or "reset" if all data that was read before may be outdated. */
  listen(listener) {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** Subscribes to changes of tasks that match `filter`. A socket has one subscription, so different filters become a subscription to all tasks of their owner, or to all that the caller may see. */
  subscribe(filter, listener) {
    const key = {};
    this.#subscriptions.set(key, { filter, listener });
    this.#sendSubscription();
    return () => {
      this.#subscriptions.delete(key);
      this.#sendSubscription();
    };
  }

  /** The computer has resumed, or the network is available again: checks the connection now, without waiting for a timer. */
  wake() {
    this.#checkSilence();
    if (this.#cancelReconnect) {
      this.#cancelReconnect();
      this.#connect();
    } else if (this.state.connection === "live") this.#resync();
  }

  /** The estimated time of the server, in milliseconds. */
  serverNow() {
    return this.#io.now() + this.state.offset;
  }

  #connect() {
    this.#cancelReconnect = null;
    const socket = this.#io.connect({
      open: () => socket === this.#socket && this.#recordFrameTime(),
      text: (text) => socket === this.#socket && this.#handleFrame(text),
      close: (isRenewal = false) => socket === this.#socket && this.#scheduleReconnect(isRenewal),
    }, this.#owner);
    this.#socket = socket;
    this.#connectStartedAt = this.#io.now();
    this.#sentSubscription = null;
    this.#startSilenceTimer();
  }

  /** After a renewal the state stays live, unless the first attempt to connect fails. */
  #scheduleReconnect(isRenewal = false) {
    this.#isRenewing = isRenewal && this.#attempts === 0;
    this.#socket = null;
    this.#isResyncing = false;
    this.#sentSubscription = null;
    const ceiling = Math.min(BACK_OFF_MS.max, BACK_OFF_MS.first * 2 ** this.#attempts);
    this.#attempts += 1;
    this.#cancelReconnect = this.#io.after(ceiling * (0.5 + this.#io.random() / 2), () => this.#connect());
    if (this.state.connection === "live" && !this.#isRenewing) this.#set({ connection: "reconnecting", since: this.#lastFrameAt });
    this.#startSilenceTimer();
  }

  #recordFrameTime() {
    this.#lastFrameAt = this.#io.now();
    this.#startSilenceTimer();
  }

  #startSilenceTimer() {
    this.#cancelSilenceTimer?.();
    const now = this.#io.now();
    const waits = [this.#lastFrameAt ?? now, this.#connectStartedAt].map((at) => at + STALE_MS - now).filter((left) => left > 0);
    this.#cancelSilenceTimer = this.#io.after(waits.length ? Math.min(...waits) : STALE_MS, () => this.#checkSilence());
  }

  /** Marks the state as stale if the last frame is too old, and replaces a socket that has received no frame for as long. */
  #checkSilence() {
    const isOverdue = (since) => this.#io.now() - since >= STALE_MS;
    if (this.#lastFrameAt !== null && isOverdue(this.#lastFrameAt) && this.state.counts && this.state.connection !== "stale") {
      this.#set({ connection: "stale", since: this.#lastFrameAt });
    }
    if (this.#socket && isOverdue(Math.max(this.#lastFrameAt ?? 0, this.#connectStartedAt))) {
      const socket = this.#socket;
      this.#scheduleReconnect();
      socket.close();
    }
    this.#startSilenceTimer();
  }

  #handleFrame(text) {
    let frame;
    try {
      frame = JSON.parse(text);
    } catch {
      return;
    }
    this.#recordFrameTime();
    switch (frame.type) {
      case "hello": return this.#handleHello(frame);
      case "snapshot": return this.#handleSnapshot(frame);
      case "counters": return this.#handleCounters(frame);
      case "beat":
        this.#updateClockOffset(frame.time, false);
        return this.#updateStaleSince(frame);
      case "tasks":
      case "tasks_changed":
      case "subscribed": return this.#deliver(frame);
    }
  }

  #handleHello({ epoch, time, stale_since }) {
    const isNewEpoch = this.state.epoch !== null && this.state.epoch !== epoch;
    this.#updateClockOffset(time, true);
    this.#staleSince = stale_since ? Date.parse(stale_since) : null;
    if (isNewEpoch) {
      this.#set({ epoch, position: null, counts: null, unseen: null, seen: null, connection: "connecting" });
      this.#emit("reset");
    } else this.state.epoch = epoch;
    // A socket that has just been opened has no subscription, also if one was sent before it was open.
    this.#sentSubscription = null;
    this.#sendSubscription();
  }

  #handleSnapshot({ position, counts, unseen, seen }) {
    this.#isResyncing = false;
    this.#attempts = 0;
    const isReconnect = (this.state.connection !== "live" || this.#isRenewing) && this.state.counts !== null;
    this.#isRenewing = false;
    this.#set({ ...this.#linkState(), position, counts, unseen, seen });
    if (isReconnect) this.#emit("reset");
  }

  /** A beat tells whether the server's views are stale, which they are while the server can't reach the log. */
  #updateStaleSince({ stale_since }) {
    const previous = this.#staleSince;
    this.#staleSince = stale_since ? Date.parse(stale_since) : null;
    if (previous !== this.#staleSince && this.state.counts) this.#set(this.#linkState());
  }

  /** The state of the connection while frames arrive. */
  #linkState() {
    return this.#staleSince === null ? { connection: "live", since: null } : { connection: "stale", since: this.#staleSince - this.state.offset };
  }

  #handleCounters({ previous, position, counts, unseen, seen }) {
    if (this.#isResyncing) return;
    if (previous !== this.state.position) return this.#resync();
    this.#set({ position, counts, unseen, seen });
  }

  #resync() {
    this.#isResyncing = true;
    this.#send({ type: "resync" });
  }

  /**
   * Estimates the offset between the two clocks from the time in a frame. A frame arrives late, never early, so the largest
   * sample is the best one. After a jump of a clock the estimate starts again.
   */
  #updateClockOffset(time, restarts) {
    const sample = Date.parse(time) - this.#io.now();
    if (Number.isNaN(sample)) return;
    const hasJumped = Math.abs(sample - this.state.offset) > 2000;
    this.state.offset = restarts || hasJumped ? sample : Math.max(this.state.offset, sample);
  }

  #sendSubscription() {
    if (!this.#socket || this.#lastFrameAt === null || this.state.epoch === null) return;
    const filter = this.#joinedFilter();
    const serialized = filter && canonical(filter);
    if (serialized === this.#sentSubscription) {
      // A new listener must read the tasks again, because its first read may be older than the last frame, which it did not
      // get. So it gets a `subscribed` frame although the subscription exists already.
      if (filter) this.#io.after(0, () => this.#deliver({ type: "subscribed", position: this.state.position ?? 0 }));
      return;
    }
    this.#sentSubscription = serialized;
    this.#send(filter ? { type: "subscribe", filter } : { type: "unsubscribe" });
  }

  /** One filter that includes every subscription; null if there is none. */
  #joinedFilter() {
    const filters = [...this.#subscriptions.values()].map(({ filter }) => filter);
    if (new Set(filters.map(canonical)).size <= 1) return filters[0] ?? null;
    const [{ owner }] = filters;
    const haveOneOwner = filters.every((filter) => filter.owner === owner && !filter.ids);
    return haveOneOwner ? (owner === undefined ? {} : { owner }) : this.#everything;
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

  #emit(change) {
    for (const listener of [...this.#listeners]) listener(change, this.state);
  }
}
