/**
 * Does the work. Three loops beside the handlers:
 *
 * - **take** asks for leases while there are free slots, and waits at the server for them;
 * - **listen** keeps a heartbeat parked at the server for all leases, and hears what it directs;
 * - **tell** says what the handlers have to say: acknowledgements, progress, and in batches how attempts ended.
 *
 * Nothing is over before the server has said so: an attempt keeps its slot and its heartbeat until its end is answered.
 * A server that is away for a while is asked again and again; it honours the leases when it is back.
 */
import { randomUUID } from "node:crypto";
import { hostname } from "node:os";
import { Client } from "./client.js";
import { type Ack, Context, type Lease } from "./context.js";
import { batches, type End, type Handler, instead, LEASES_MAX, readEnd, run, type Said } from "./ends.js";
import { Problem } from "./errors.js";
import { type Call, Cut } from "./wire.js";

export interface WorkerOptions {
  client?: Client;
  /** So many attempts at once. */
  concurrency?: number;
  /** Tasks of these only. */
  queues?: string[];
  /** The first part of the worker's name. */
  name?: string;
  /** How long `run` waits, once it is to stop, for what runs. */
  graceMs?: number;
  /**
   * How long the server keeps a request for leases, up to 30 s. An idle worker takes up to this long to stop, because a
   * request that is cut could lose a lease that is on its way.
   */
  waitMs?: number;
  /** Whether SIGTERM and SIGINT stop it. */
  signals?: boolean;
  /** Hears what goes wrong. */
  log?: (line: string) => void;
}

/** How long a heartbeat waits for directives; the server cuts it to a third of the lease. */
const BEAT_MS = 10_000;
/** Between two heartbeats without news, so that attempts of a few milliseconds don't each begin another. */
const SETTLE_MS = 50;
/** Progress is told so often at most. */
const PROGRESS_MS = 100;
/** How often the worker looks at the clock; a step larger than the second means that it didn't run meanwhile. */
const TICK_MS = 250;
const SLEPT_MS = 5_000;
/** Pause after an answer that should have waited and didn't, or an end that the server can't take just now. */
const AGAIN_MS = 500;
/** After the grace: how long the last words may take. */
const LAST_MS = 2_000;
/** Runs handlers for the kinds that they are named for. */
export class Worker {
  readonly name: string;
  readonly #handlers: ReadonlyMap<string, Handler>;
  readonly #options: Required<Omit<WorkerOptions, "queues">> & { queues: string[] | undefined };
  /** The attempts whose ends are not answered yet, by lease. */
  readonly #attempts = new Map<string, Context>();
  /** What the handlers have to say. */
  #acks: { context: Context; ack: Ack }[] = [];
  #speaking = new Set<Context>();
  #ends: End[] = [];
  /** No new attempts; then: nothing at all. */
  readonly #stopping = new AbortController();
  readonly #closed = new AbortController();
  /** Ends the parked heartbeat. */
  #cut = new AbortController();
  #noticed = Date.now();
  /** Whoever waits for something in the above to change. */
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
   * resolves, the process should end: a handler that outlived the grace still runs. Rejects with what the server says
   * where it refuses this worker altogether.
   */
  async run(): Promise<void> {
    const ticks = setInterval(() => this.#notice(), TICK_MS);
    const forget = this.#options.signals ? this.#hearSignals() : () => {};
    let failed: unknown;
    const guard = (loop: Promise<void>) =>
      loop.catch((error: unknown) => {
        if (this.#closed.signal.aborted) return;
        failed ??= error;
        this.stop();
      });
    const take = guard(this.#take());
    const others = [guard(this.#listen()), guard(this.#tell())];
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

  #begin(lease: Lease): void {
    if (this.#attempts.has(lease.lease)) return;
    const context = new Context(lease, {
      acknowledged: (context, ack) => (this.#acks.push({ context, ack }), this.#changed()),
      said: (context) => (this.#speaking.add(context), this.#changed()),
      looked: () => this.#notice(),
    });
    this.#attempts.set(lease.lease, context);
    const handler = this.#handlers.get(lease.kind);
    if (this.#stopping.signal.aborted || handler === undefined) {
      this.#end(context, { outcome: "released" });
      return;
    }
    void run(handler, context, this.#options.log).then((said) => this.#end(context, said));
    this.#cut.abort(); // the parked heartbeat doesn't cover this lease
    this.#changed();
  }

  #end(context: Context, said: Said | undefined): void {
    if (context.ended) return; // it was handed back meanwhile
    context.ended = true;
    if (said === undefined || context.lost) this.#forget(context);
    else this.#ends.push({ context, said });
    this.#changed();
  }

  #forget(context: Context): void {
    this.#attempts.delete(context.lease.lease);
    this.#changed();
  }

  // Listen.

  async #listen(): Promise<void> {
    const closed = this.#closed.signal;
    let news = false;
    for (;;) {
      await this.#until(() => closed.aborted || this.#held().length > 0);
      if (closed.aborted || (!news && (await sleep(SETTLE_MS, closed)))) return;
      this.#cut = new AbortController();
      news = false;
      try {
        news = await this.#beat(this.#held(), { waitMs: BEAT_MS, signal: this.#cut.signal });
      } catch (error) {
        if (error instanceof Cut) continue;
        if (!(error instanceof Problem)) throw error;
        this.#options.log(`taskbell: the server refuses the heartbeat: ${error.message}`);
        await sleep(AGAIN_MS, closed);
      }
    }
  }

  /** The attempts that are ours, as far as we know. */
  #held(): Context[] {
    return [...this.#attempts.values()].filter((context) => !context.lost);
  }

  /** One heartbeat for these attempts; whether it brought news. With `tellProgress`, also how far they have come. */
  async #beat(
    contexts: Context[],
    { tellProgress = false, ...options }: { waitMs: number; signal: AbortSignal; tellProgress?: boolean },
  ): Promise<boolean> {
    if (contexts.length === 0) return false;
    const leases = contexts.map((context) => ({
      lease: context.lease.lease,
      seen: context.seen,
      progress: tellProgress ? context.takeProgress() : undefined,
    }));
    const body = { worker: this.name, leases, wait_s: options.waitMs / 1000 };
    const directives = await this.#post("/heartbeat", body, readDirectives, options);
    const matters = (directives ?? []).map(
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
      await this.#until(() => news() || this.#speaking.size > 0);
      if (!news()) await this.#until(news, due - Date.now());
      if (closed.aborted) return;
      // While one call is under way, others gather.
      const [acks, ends] = [this.#acks.splice(0), this.#ends.splice(0)];
      for (const { context, ack } of acks) await this.#tellAck(context, ack);
      // What was said last belongs to the end, so it is told before.
      if (this.#speaking.size > 0 && (ends.length > 0 || Date.now() >= due)) {
        await this.#tellProgress();
        due = Date.now() + PROGRESS_MS;
      }
      for (const batch of batches(ends)) await this.#tellEnds(batch);
    }
  }

  async #tellAck(context: Context, ack: Ack): Promise<void> {
    try {
      await this.#post("/cancel-ack", { lease: context.lease.lease, ...ack }, () => null);
    } catch (error) {
      if (!(error instanceof Problem)) throw error;
      if (error.code === "lease_lost") context.direct("lost");
      else this.#options.log(`taskbell: task ${context.taskId}: the acknowledgement was refused: ${error.message}`);
    }
  }

  async #tellProgress(): Promise<void> {
    const contexts = [...this.#speaking].filter((context) => !context.lost);
    this.#speaking.clear();
    try {
      await this.#beat(contexts, { waitMs: 0, signal: this.#closed.signal, tellProgress: true });
    } catch (error) {
      if (!(error instanceof Problem)) throw error;
      this.#options.log(`taskbell: progress was refused: ${error.message}`);
    }
  }

  /** Tells how attempts ended, until it is answered. One that spoils a batch is found by telling each alone. */
  async #tellEnds(ends: End[]): Promise<void> {
    const items = ends.map(({ context, said }) => ({ lease: context.lease.lease, ...said }));
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
        for (const end of ends) await this.#tellEnds([end]);
        return;
      }
      answers = [error];
    }
    answers?.forEach((refused, place) => this.#settle(ends[place]!, refused));
    if (answers?.some((refused) => refused?.retryable)) await sleep(AGAIN_MS, this.#closed.signal);
  }

  /** The server has answered: the attempt is over, or something else must be said of it. */
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

  // What surrounds the loops.

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
    const told = await this.#until(() => !left.some((context) => this.#attempts.has(context.lease.lease)), LAST_MS);
    if (!told) log("taskbell: ends could not be told: the server will count these attempts as lost");
  }

  /** After a sleep of the machine, or of the event loop behind code that blocks it, leases may be somebody else's. */
  #notice(): void {
    const sleptMs = Date.now() - this.#noticed;
    this.#noticed += sleptMs;
    if (sleptMs <= SLEPT_MS) return;
    this.#options.log(`taskbell: nothing ran for ${Math.round(sleptMs / 1000)} s; asking for the leases`);
    this.#cut.abort();
  }

  /** Asks until it is answered; undefined when `over` came before. */
  async #post<T>(
    path: string,
    body: unknown,
    read: Call<T>["read"],
    { over = this.#closed.signal, signal = this.#closed.signal, waitMs = 0 }: Partial<Waiting> = {},
  ): Promise<T | undefined> {
    const keepTrying = async (failed: Error, pauseMs: number) => {
      this.#options.log(`taskbell: ${failed.message}; trying again in ${Math.round(pauseMs)} ms`);
      return !(await sleep(pauseMs, over));
    };
    try {
      const { wire } = this.#options.client;
      return await wire.call({ method: "POST", path: `/v1/leases${path}`, body, read, keepTrying, waitMs, signal });
    } catch (error) {
      const refused = error instanceof Problem && !error.retryable;
      if (over.aborted && !refused) return undefined;
      throw error;
    }
  }

  #hearSignals(): () => void {
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
}

/** Sleeps so long or until the signal; whether it was that. */
function sleep(ms: number, signal: AbortSignal): Promise<boolean> {
  return new Promise((resolve) => {
    if (signal.aborted) return resolve(true);
    const over = () => {
      clearTimeout(timer);
      signal.removeEventListener("abort", over);
      resolve(signal.aborted);
    };
    const timer = setTimeout(over, ms);
    signal.addEventListener("abort", over);
  });
}

function readLeases(answer: any): Lease[] {
  return answer.leases.map((lease: Lease) => {
    if (typeof lease.lease !== "string" || typeof lease.kind !== "string") throw new TypeError("no lease");
    return lease;
  });
}

function readDirectives(answer: any): { lease: string; directive: string }[] {
  return answer.directives.map(({ lease, directive }: any) => ({ lease: String(lease), directive: String(directive) }));
}
