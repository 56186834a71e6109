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

/** The same after an interrupt: stop now, clean up only what must be. */
export class Interrupted extends Cancelled {}

/** The lease has ended, and another worker may hold the task. Stop; nothing will be reported. */
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
  /** Until it ends without a heartbeat, counted from the sending of the answer; missing from older servers. */
  left_ms?: number;
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

/** Callbacks of an attempt to its worker. None of them waits. */
export interface Callbacks {
  acknowledged(context: Context, ack: Ack): void;
  /** There is progress to be sent, where there was none. */
  hasProgress(context: Context): void;
  /** Called before a check for a cancel is answered. */
  beforeCheck(): void;
}

interface Step {
  name: string;
  expectedEnd: string | undefined;
}

/** A handler's access to its attempt. */
export class Context {
  /** The last directive, named in the next heartbeat, so that it isn't repeated. @internal */
  seen: string | undefined;
  /** The lease is gone. @internal */
  lost = false;
  /** When the lease ends, by `performance.now()`; infinite for a server that doesn't say. @internal */
  deadline = Infinity;
  /** The handler has ended; the server may not know it yet. @internal */
  ended = false;
  /** @internal */
  isDraining = false;
  readonly #callbacks: Callbacks;
  readonly #stop = new AbortController();
  readonly #interrupt = new AbortController();
  readonly #steps: Step[] = [];
  #cancelRequested = false;
  #observed = false;
  #acks = 0;
  #progress: Progress | undefined;

  /** @internal */
  constructor(
    /** @internal */
    readonly lease: Lease,
    callbacks: Callbacks,
  ) {
    this.#callbacks = callbacks;
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
   * Aborts when it is to stop, for whatever else takes a signal. Reading a signal acknowledges nothing: where the
   * work goes on for a while, call `throwIfCancelled`.
   */
  get signal(): AbortSignal {
    return this.#stop.signal;
  }

  /** Aborts at an interrupt: when it is to stop now, or when the lease is lost. Code can't be killed from outside. */
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
    if (first) this.#callbacks.hasProgress(this);
  }

  /** Whether to stop. If a cancel is requested, this acknowledges it: stop soon. */
  isCancelled(): boolean {
    this.#callbacks.beforeCheck();
    this.expire();
    if (this.#cancelRequested && !this.#observed) {
      this.#observed = true;
      if (this.#acks === 0) this.#acknowledge();
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
    if (this.#cancelRequested && !this.#observed && this.#acks < ACKS_MAX) this.#acknowledge();
    try {
      return await work();
    } finally {
      this.#steps.splice(this.#steps.indexOf(step), 1);
    }
  }

  /**
   * Applies a directive; whether it concerns a running handler. `drain` doesn't: the server stops and comes back.
   * @internal
   */
  direct(directive: string): boolean {
    if (directive !== "cancel" && directive !== "interrupt" && directive !== "lost") return false;
    this.seen = directive;
    if (directive === "lost") {
      this.lost = true;
    } else if (!this.#cancelRequested) {
      this.#cancelRequested = true;
      if (this.#steps.length > 0) this.#acknowledge();
    }
    const reasons = { cancel: Cancelled, interrupt: Interrupted, lost: LeaseLost };
    if (directive !== "cancel") this.#interrupt.abort(new reasons[directive]());
    this.#stop.abort(new reasons[directive]());
    return !this.ended;
  }

  /** Loses the lease if it has ended: another worker may hold it. Whether that was so. @internal */
  expire(): boolean {
    const overdue = !this.ended && !this.lost && performance.now() >= this.deadline;
    if (overdue) this.direct("lost");
    return overdue;
  }

  /** The progress that hasn't been sent yet. @internal */
  takeProgress(): Progress | undefined {
    const progress = this.#progress;
    this.#progress = undefined;
    return progress;
  }

  #acknowledge(): void {
    this.#acks += 1;
    const step = this.#steps.at(-1);
    this.#callbacks.acknowledged(this, { stopping_after: step?.name, expected_end: step?.expectedEnd });
  }
}

/** As one line that the server takes: no control characters, at most so many bytes. */
export function line(text: string, most = TEXT_MAX): string {
  const one = Buffer.from(text.replace(/[\p{Cc}\u2028\u2029]/gu, " ").trim());
  // `stream` leaves half a character at the end away.
  return new TextDecoder().decode(one.subarray(0, most), { stream: true });
}
