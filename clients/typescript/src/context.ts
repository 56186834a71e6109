/** One attempt, as its handler sees it: the input, progress, the request to cancel, named steps; and how it may end. */

/** A message or a step's name, and the code of a failure, in bytes of UTF-8. */
const TEXT_MAX = 1024;
export const CODE_MAX = 64;
/** A handler that never looks acknowledges so many steps at most: each is an event in the task's history. */
const ACKS_MAX = 100;

/** The work is done: a line for people, and what it gave (JSON, at most 256 KiB). */
export interface Done {
  message?: string | undefined;
  result?: unknown;
}

/** The work can't be done: a stable code in snake_case, a line for people, and whether another attempt may help. */
export class Failure extends Error {
  readonly retryable: boolean;

  constructor(
    readonly code: string,
    message: string,
    options: { retryable?: boolean; cause?: unknown } = {},
  ) {
    super(message, { cause: options.cause });
    this.retryable = options.retryable ?? true;
  }
}

/** The handler stopped because it was asked to; it may say what was done and what was not. */
export class Cancelled extends Error {
  constructor(
    message = "",
    readonly result?: unknown,
  ) {
    super(message);
  }
}

/** The same, after the harder word: stop now, clean up only what must be. */
export class Interrupted extends Cancelled {}

/** The attempt is no longer ours: somebody else may be at it. Stop; nothing will be reported. */
export class LeaseLost extends Error {}

/** Thrown by a handler that hands its task back, for another worker to begin anew; it counts as no attempt. */
export class Released extends Error {}

/** The right to one attempt, as the server gave it. */
export interface Lease {
  lease: string;
  task_id: string;
  kind: string;
  input: any;
  attempt: number;
  title: string;
  owner: string;
  labels: Record<string, string>;
}

/** What a worker answers to a request to cancel. */
export interface Ack {
  stopping_after: string | undefined;
  expected_end: string | undefined;
}

export interface Progress {
  fraction?: number;
  message?: string;
}

/** What an attempt tells its worker. None of it waits. */
export interface Ear {
  acknowledged(context: Context, ack: Ack): void;
  /** There is progress to be told, where there was none. */
  said(context: Context): void;
  /** The handler looks; it is answered after this. */
  looked(): void;
}

interface Step {
  name: string;
  expectedEnd: string | undefined;
}

/** What a handler has of the world. */
export class Context {
  /** The last directive, named in the next heartbeat, so that it isn't repeated. @internal */
  seen: string | undefined;
  /** The lease is gone. @internal */
  lost = false;
  /** How it ended is known here, if not yet there. @internal */
  ended = false;
  /** @internal */
  isDraining = false;
  readonly #ear: Ear;
  readonly #stop = new AbortController();
  readonly #interrupt = new AbortController();
  readonly #steps: Step[] = [];
  #asked = false;
  #observed = false;
  #acks = 0;
  #progress: Progress | undefined;

  /** @internal */
  constructor(
    /** @internal */
    readonly lease: Lease,
    ear: Ear,
  ) {
    this.#ear = ear;
  }

  get taskId(): string {
    return this.lease.task_id;
  }

  get kind(): string {
    return this.lease.kind;
  }

  get input(): any {
    return this.lease.input;
  }

  /** Which attempt, from 1. */
  get attempt(): number {
    return this.lease.attempt;
  }

  get title(): string {
    return this.lease.title;
  }

  get owner(): string {
    return this.lease.owner;
  }

  get labels(): Record<string, string> {
    return this.lease.labels;
  }

  /**
   * Aborts when it is to stop, for whatever else takes a signal. Nobody hears that a signal was seen: where the work
   * goes on for a while, call `throwIfCancelled`.
   */
  get signal(): AbortSignal {
    return this.#stop.signal;
  }

  /** The harder word: aborts when it is to stop now, or when the lease is lost. Code can't be killed from outside. */
  get interruptSignal(): AbortSignal {
    return this.#interrupt.signal;
  }

  /** This worker is about to end. What can't be done soon may be handed back: `throw new Released()`. */
  get draining(): boolean {
    return this.isDraining;
  }

  /** How far it has come: 0 to 1 where that is known, and a line for people. Cheap; the latest wins. */
  progress(fraction: number | null, message?: string): void {
    const first = this.#progress === undefined;
    const text = line(message ?? "");
    this.#progress = {
      ...(fraction !== null && !Number.isNaN(fraction) && { fraction: Math.min(Math.max(fraction, 0), 1) }),
      ...(text !== "" && { message: text }),
    };
    if (first) this.#ear.said(this);
  }

  /** Whether to stop. Where somebody asked for it, seeing it acknowledges it: stop soon. */
  isCancelled(): boolean {
    this.#ear.looked();
    if (this.#asked && !this.#observed) {
      this.#observed = true;
      if (this.#acks === 0) this.#answer();
    }
    return this.#stop.signal.aborted;
  }

  /** To be called wherever the work can stop: throws `LeaseLost`, `Interrupted` or `Cancelled`. */
  throwIfCancelled(): void {
    if (this.isCancelled()) throw this.interruptSignal.aborted ? this.interruptSignal.reason : this.signal.reason;
  }

  /** A named step that can't be interrupted. A cancel that arrives meanwhile is answered with its name. */
  async blocking<T>(name: string, options: { expectedMs?: number }, work: () => T | Promise<T>): Promise<T> {
    const { expectedMs } = options;
    const expectedEnd = expectedMs === undefined ? undefined : new Date(Date.now() + expectedMs).toISOString();
    const step = { name: line(name) || "a step", expectedEnd };
    this.#steps.push(step);
    if (this.#asked && !this.#observed && this.#acks < ACKS_MAX) this.#answer();
    try {
      return await work();
    } finally {
      this.#steps.splice(this.#steps.indexOf(step), 1);
    }
  }

  /**
   * The server said so; whether that matters here. That it is about to go (`drain`) doesn't: it comes back.
   * @internal
   */
  direct(directive: string): boolean {
    if (directive !== "cancel" && directive !== "interrupt" && directive !== "lost") return false;
    this.seen = directive;
    if (directive === "lost") {
      this.lost = true;
    } else if (!this.#asked) {
      this.#asked = true;
      if (this.#steps.length > 0) this.#answer();
    }
    const reasons = { cancel: Cancelled, interrupt: Interrupted, lost: LeaseLost };
    if (directive !== "cancel") this.#interrupt.abort(new reasons[directive]());
    this.#stop.abort(new reasons[directive]());
    return !this.ended;
  }

  /** What hasn't been told yet. @internal */
  takeProgress(): Progress | undefined {
    const said = this.#progress;
    this.#progress = undefined;
    return said;
  }

  #answer(): void {
    this.#acks += 1;
    const step = this.#steps.at(-1);
    this.#ear.acknowledged(this, { stopping_after: step?.name, expected_end: step?.expectedEnd });
  }
}

/** As one line that the server takes: no control characters, at most so many bytes. */
export function line(text: string, most = TEXT_MAX): string {
  const one = Buffer.from(text.replace(/[\p{Cc}\u2028\u2029]/gu, " ").trim());
  // `stream` leaves half a character at the end away.
  return new TextDecoder().decode(one.subarray(0, most), { stream: true });
}
