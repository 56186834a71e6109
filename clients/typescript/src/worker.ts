/**
 * Does the work. Three loops beside the handlers:
 *
 * - **take** asks for leases while there are free slots, and waits at the server for them;
 * - **listen** keeps a heartbeat parked at the server for all leases, and receives its directives;
 * - **tell** sends what the handlers report: acknowledgements, progress, and in batches how attempts ended.
 *
 * An attempt keeps its slot and its heartbeat until the server has answered its end. Requests to a server that can't be
 * reached are repeated; it honours the leases when it is back.
 */
import { randomUUID } from "node:crypto";
import { hostname } from "node:os";
import { Client } from "./client.js";
import { type Ack, Context, type Lease } from "./context.js";
import { batches, type End, type Handler, instead, LEASES_MAX, type Outcome, readEnd, run } from "./ends.js";
import { Problem, Unreachable } from "./errors.js";
import { readBeat, readLeases, thirdOfTimeLeft } from "./leaseTime.js";
import type { WorkerOptions } from "./options.js";
import { sleep } from "./sleep.js";
import { type Call, Cut, type KeepTrying, PATIENCE_MS, pausesMs } from "./wire.js";

/** How long a heartbeat waits for directives: at most this, and at most a third of the time that is left. */
const BEAT_MS = 10_000;
/** Between two heartbeats without news, so that attempts of a few milliseconds don't each begin another. */
const SETTLE_MS = 50;
/** The time between two heartbeats with progress. */
const PROGRESS_MS = 100;
/** How often the worker looks at the clock; a step larger than the second means that it didn't run meanwhile. */
const TICK_MS = 250;
const SLEPT_MS = 5_000;
/** The longest timer for a deadline: `setTimeout` takes no more than 24 days. */
const EXPIRE_MS = 60_000;
/** Pause after an empty answer that came too early, or an end that the server can't take now. */
const AGAIN_MS = 500;
/** After the grace: how long the last reports may take. */
const LAST_MS = 2_000;
/** Runs handlers for the kinds that they are named for. */
export class Worker {
  readonly name: string;
  readonly #handlers: ReadonlyMap<string, Handler>;
  readonly #options: Required<Omit<WorkerOptions, "queues">> & { queues: string[] | undefined };
  /** The attempts whose ends are not answered yet, by lease. */
  readonly #attempts = new Map<string, Context>();
  /** What is to be sent. */
  #acks: { context: Context; ack: Ack }[] = [];
  #withProgress = new Set<Context>();
  #ends: End[] = [];
  /** Aborted when no new attempts are to begin, and when all loops are to end. */
  readonly #stopping = new AbortController();
  readonly #closed = new AbortController();
  /** Ends the parked heartbeat. */
  #cut = new AbortController();
  #lastTick = Date.now();
  /** Called at each change of the above. */
  #waiting: (() => void)[] = [];

  constructor(handlers: Readonly<Record<string, Handler>>, options: WorkerOptions = {}) {
    const { concurrency = 1, name = "node", queues } = options;
    this.#handlers = new Map(Object.entries(handlers));
    if (this.#handlers.size === 0 || !(concurrency >= 1 && concurrency <= LEASES_MAX)) {
      throw new RangeError(`a worker needs a handler and 1 to ${LEASES_MAX} slots`);
    }
    this.name = `${name}/${hostname().slice(0, 48)}/${process.pid}/${randomUUID().slice(0, 8)}`;
    const { client = new Client(), graceMs = 7_000, waitMs = 5_000, signals = true, log = console.warn } = options;
    this.#options = { client, concurrency, queues, name, graceMs, waitMs, signals, log };
  }

  /**
   * Works until `stop` is called or SIGTERM or SIGINT arrives, then drains. A second signal ends the process. When this
   * resolves, the process should end: a handler that outlived the grace still runs. Rejects with the `Problem` of a server
   * that refuses this worker.
   */
  async run(): Promise<void> {
    const ticks = setInterval(() => this.#checkClock(), TICK_MS);
    const forget = this.#options.signals ? this.#stopOnSignals() : () => {};
    let failed: unknown;
    const guard = (loop: Promise<void>) =>
      loop.catch((error: unknown) => {
        if (this.#closed.signal.aborted) return;
        failed ??= error;
        this.stop();
      });
    const take = guard(this.#take());
    const others = [guard(this.#listen()), guard(this.#tell()), guard(this.#expire())];
    await this.#until(() => this.#stopping.signal.aborted);
    forget();
    await this.#drain(take);
    clearInterval(ticks);
    this.#closed.abort();
    this.#cut.abort();
    this.#changed();
    await Promise.all([take, ...others]);
    if (failed !== undefined) throw failed;
  }

  /** No new attempts; those that run have the grace. */
  stop(): void {
    this.#stopping.abort();
    this.#changed();
  }

  // Take.

  async #take(): Promise<void> {
    const { concurrency, queues, waitMs } = this.#options;
    const stopping = this.#stopping.signal;
    for (;;) {
      await this.#until(() => stopping.aborted || this.#attempts.size < concurrency);
      if (stopping.aborted) return;
      const max = concurrency - this.#attempts.size;
      const body = { worker: this.name, kinds: [...this.#handlers.keys()], queues, max, wait_s: waitMs / 1000 };
      const began = Date.now();
      const leases = await this.#post("", body, readLeases, { waitMs, over: stopping, signal: this.#closed.signal });
      if (leases === undefined) return;
      for (const lease of leases) this.#begin(lease);
      if (leases.length === 0 && Date.now() - began < waitMs / 2) await sleep(AGAIN_MS, stopping);
    }
  }

  /**
   * Begins the attempt of a lease that has just arrived; half of its time is a margin for the answer's way.
   */
  #begin(lease: Lease): void {
    if (this.#attempts.has(lease.lease)) return;
    const context = new Context(lease, {
      acknowledged: (context, ack) => (this.#acks.push({ context, ack }), this.#changed()),
      hasProgress: (context) => (this.#withProgress.add(context), this.#changed()),
      beforeCheck: () => this.#checkClock(),
    });
    context.deadline = performance.now() + (lease.left_ms ?? Infinity) / 2;
    this.#attempts.set(lease.lease, context);
    const handler = this.#handlers.get(lease.kind);
    if (this.#stopping.signal.aborted || handler === undefined) {
      this.#end(context, { outcome: "released" });
      return;
    }
    void run(handler, context, this.#options.log).then((outcome) => this.#end(context, outcome));
    this.#cut.abort(); // the parked heartbeat doesn't name this lease
    this.#changed();
  }

  #end(context: Context, outcome: Outcome | undefined): void {
    if (context.ended) return; // it was handed back before
    context.ended = true;
    if (outcome === undefined || context.lost) this.#forget(context);
    else this.#ends.push({ context, outcome });
    this.#changed();
  }

  #forget(context: Context): void {
    this.#attempts.delete(context.lease.lease);
    this.#changed();
  }

  // Listen.

  async #listen(): Promise<void> {
    const closed = this.#closed.signal;
    let [news, tries, failed] = [false, pausesMs(), false];
    for (;;) {
      await this.#until(() => closed.aborted || this.#held().length > 0);
      if (closed.aborted || (!news && !failed && (await sleep(SETTLE_MS, closed)))) return;
      this.#cut = new AbortController();
      news = false;
      const held = this.#held();
      const third = thirdOfTimeLeft(held);
      let againMs = 0;
      const keepTrying = async (_failed: Error, pauseMs: number) => ((againMs = pauseMs), false);
      const times = { waitMs: failed ? 0 : Math.min(BEAT_MS, third), allowanceMs: Math.min(PATIENCE_MS, third) };
      try {
        news = await this.#beat(held, { ...times, keepTrying, signal: this.#cut.signal });
        [tries, failed] = [pausesMs(), false];
      } catch (error) {
        if (error instanceof Cut) continue;
        if (!(error instanceof Problem || error instanceof Unreachable)) throw error;
        failed = true;
        this.#options.log(`taskbell: a heartbeat failed: ${error.message}`);
        await sleep(Math.min(Math.max(tries.next().value, againMs), third / 2), closed);
      }
    }
  }

  /** Loses each lease at its deadline. */
  async #expire(): Promise<void> {
    const closed = this.#closed.signal;
    const next = () =>
      this.#held().reduce((first, context) => (context.ended ? first : Math.min(first, context.deadline)), Infinity);
    while (!closed.aborted) {
      const first = next();
      const leftMs = first - performance.now();
      await this.#until(() => closed.aborted || next() !== first, first === Infinity ? first : Math.min(leftMs, EXPIRE_MS));
      for (const context of this.#held()) {
        if (context.expire()) {
          this.#options.log(`taskbell: task ${context.taskId} is given up: no heartbeat got through in time`);
        }
      }
    }
  }

  /** The attempts that are ours, as far as we know. */
  #held(): Context[] {
    return [...this.#attempts.values()].filter((context) => !context.lost);
  }

  /** One heartbeat for these attempts; whether it brought news. With `sendProgress`, also their progress. */
  async #beat(
    contexts: Context[],
    { sendProgress = false, ...options }: Partial<Waiting> & { waitMs: number; sendProgress?: boolean },
  ): Promise<boolean> {
    if (contexts.length === 0) return false;
    const leases = contexts.map((context) => ({
      lease: context.lease.lease,
      seen: context.seen,
      progress: sendProgress ? context.takeProgress() : undefined,
    }));
    const body = { worker: this.name, leases, wait_s: options.waitMs / 1000 };
    const answer = await this.#post("/heartbeat", body, readBeat, options);
    // The answer was sent after the heartbeat was: this is never too late.
    for (const context of contexts) context.deadline = Math.max(context.deadline, answer?.deadline ?? -Infinity);
    const matters = (answer?.directives ?? []).map(
      ({ lease, directive }) => contexts.find((context) => context.lease.lease === lease)?.direct(directive) ?? false,
    );
    return matters.includes(true);
  }

  // Tell.

  async #tell(): Promise<void> {
    const closed = this.#closed.signal;
    let due = 0;
    for (;;) {
      const news = () => closed.aborted || this.#acks.length > 0 || this.#ends.length > 0;
      await this.#until(() => news() || this.#withProgress.size > 0);
      if (!news()) await this.#until(news, due - Date.now());
      if (closed.aborted) return;
      // More of them gather while a request is under way.
      const [acks, ends] = [this.#acks.splice(0), this.#ends.splice(0)];
      for (const { context, ack } of acks) await this.#sendAck(context, ack);
      // The last progress is recorded with the end, so it is sent before.
      if (this.#withProgress.size > 0 && (ends.length > 0 || Date.now() >= due)) {
        await this.#sendProgress();
        due = Date.now() + PROGRESS_MS;
      }
      for (const batch of batches(ends)) await this.#sendEnds(batch);
    }
  }

  async #sendAck(context: Context, ack: Ack): Promise<void> {
    try {
      await this.#post("/cancel-ack", { lease: context.lease.lease, ...ack }, () => null);
    } catch (error) {
      if (!(error instanceof Problem)) throw error;
      if (error.code === "lease_lost") context.direct("lost");
      else this.#options.log(`taskbell: task ${context.taskId}: the acknowledgement was refused: ${error.message}`);
    }
  }

  async #sendProgress(): Promise<void> {
    const contexts = [...this.#withProgress].filter((context) => !context.lost);
    this.#withProgress.clear();
    try {
      await this.#beat(contexts, { waitMs: 0, signal: this.#closed.signal, sendProgress: true });
    } catch (error) {
      if (!(error instanceof Problem)) throw error;
      this.#options.log(`taskbell: progress was refused: ${error.message}`);
    }
  }

  /** Sends ends until they are answered. If the whole batch is refused, each is sent alone. */
  async #sendEnds(ends: End[]): Promise<void> {
    const items = ends.map(({ context, outcome }) => ({ lease: context.lease.lease, ...outcome }));
    const read = (answer: any) => {
      if (answer.items.length !== items.length) throw new TypeError("not as many answers as ends");
      return answer.items.map(readEnd) as (Problem | null)[];
    };
    let answers: (Problem | null)[] | undefined;
    try {
      answers = await this.#post("/finish", { items }, read);
    } catch (error) {
      if (!(error instanceof Problem)) throw error;
      if (ends.length > 1) {
        for (const end of ends) await this.#sendEnds([end]);
        return;
      }
      answers = [error];
    }
    answers?.forEach((refused, place) => this.#settle(ends[place]!, refused));
    if (answers?.some((refused) => refused?.retryable)) await sleep(AGAIN_MS, this.#closed.signal);
  }

  /** Handles the server's answer to an end: the attempt is over, or the end is sent again, or another in its place. */
  #settle(end: End, refused: Problem | null): void {
    const { context, again } = end;
    if (refused === null) {
      this.#forget(context);
    } else if (refused.retryable) {
      this.#ends.push(end);
    } else if (refused.code === "lease_lost" || again) {
      this.#options.log(`taskbell: task ${context.taskId}: its end was refused: ${refused.message}`);
      context.direct("lost");
      this.#forget(context);
    } else {
      this.#ends.push(instead(end, refused));
    }
  }

  // Around the loops.

  async #drain(take: Promise<void>): Promise<void> {
    const { graceMs, log } = this.#options;
    const end = Date.now() + graceMs;
    for (const context of this.#attempts.values()) context.isDraining = true;
    let taken = false;
    void take.then(() => ((taken = true), this.#changed()));
    await this.#until(() => taken && this.#attempts.size === 0, end - Date.now());
    const left = this.#held();
    for (const context of left) {
      if (context.ended) continue;
      log(`taskbell: task ${context.taskId} is handed back: its handler didn't end within the grace`);
      this.#end(context, { outcome: "released" });
      context.direct("lost");
    }
    const answered = await this.#until(() => !left.some((context) => this.#attempts.has(context.lease.lease)), LAST_MS);
    if (!answered) log("taskbell: ends could not be told: the server will count these attempts as lost");
  }

  /** After a sleep of the machine, or of the event loop behind code that blocks it, another worker may hold the leases. */
  #checkClock(): void {
    const sleptMs = Date.now() - this.#lastTick;
    this.#lastTick += sleptMs;
    if (sleptMs <= SLEPT_MS) return;
    this.#options.log(`taskbell: nothing ran for ${Math.round(sleptMs / 1000)} s; asking for the leases`);
    this.#cut.abort();
  }

  /** Sends a request until it is answered; undefined when `over` came before. */
  async #post<T>(
    path: string,
    body: unknown,
    read: Call<T>["read"],
    { over = this.#closed.signal, signal = this.#closed.signal, ...options }: Partial<Waiting> = {},
  ): Promise<T | undefined> {
    const untilOver = async (failed: Error, pauseMs: number) => {
      this.#options.log(`taskbell: ${failed.message}; trying again in ${Math.round(pauseMs)} ms`);
      return !(await sleep(pauseMs, over));
    };
    const { keepTrying = untilOver, ...times } = options;
    try {
      const { wire } = this.#options.client;
      return await wire.call({ method: "POST", path: `/v1/leases${path}`, body, read, keepTrying, ...times, signal });
    } catch (error) {
      const refused = error instanceof Problem && !error.retryable;
      if (over.aborted && !refused) return undefined;
      throw error;
    }
  }

  #stopOnSignals(): () => void {
    const stop = () => this.stop();
    process.on("SIGTERM", stop).on("SIGINT", stop);
    return () => void process.off("SIGTERM", stop).off("SIGINT", stop);
  }

  #changed(): void {
    for (const look of this.#waiting.splice(0)) look();
  }

  /** Waits until this holds, at most so long; whether it does. */
  async #until(holds: () => boolean, ms = Infinity): Promise<boolean> {
    const end = Date.now() + ms;
    while (!holds()) {
      const left = end - Date.now();
      if (left <= 0) return false;
      await new Promise<void>((resolve) => {
        const timer = left < Infinity ? setTimeout(resolve, left) : undefined;
        this.#waiting.push(() => (clearTimeout(timer), resolve()));
      });
    }
    return true;
  }
}

interface Waiting {
  over: AbortSignal;
  signal: AbortSignal;
  waitMs: number;
  allowanceMs: number;
  keepTrying: KeepTrying;
}
