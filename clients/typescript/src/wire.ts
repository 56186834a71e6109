/**
 * One call to the server, repeated until it is answered.
 *
 * Every call of this package may be repeated: a submit carries an idempotency key, a finish is answered twice alike,
 * and what was leased to nobody comes back by itself.
 */
import type { Agent } from "node:https";
import { setTimeout as pause } from "node:timers/promises";
import { Problem, Unreachable } from "./errors.js";
import { fromJson, toJson } from "./exact.js";
import { type Answer, type Request, send, trusting } from "./secure.js";

/** Told why a try failed, sleeps this long before the next, and says whether there shall be one. */
export type KeepTrying = (failed: Error, pauseMs: number) => Promise<boolean>;

export interface Call<T> {
  method: "GET" | "POST";
  path: string;
  body?: unknown;
  headers?: Record<string, string>;
  /**
   * Makes something of the answer, or throws where it can't be one. `sentAt`: when its request was sent, by
   * `performance.now()`; the answer was sent no earlier.
   */
  read: (answer: any, sentAt: number) => T;
  keepTrying: KeepTrying;
  /** How long the server may keep the call waiting. */
  waitMs?: number | undefined;
  /** How long the answer may take beyond that. */
  allowanceMs?: number | undefined;
  /** Gives the call up: it rejects with `Cut`. */
  signal?: AbortSignal | undefined;
}

/** How long a call that waits for nothing may take. One that waits for something may take this much longer. */
export const PATIENCE_MS = 10_000;
const FIRST_PAUSE_MS = 100;
const LONGEST_PAUSE_MS = 5_000;
/** A server that asks to be left alone for longer is asked again after this. */
const RETRY_AFTER_MAX_MS = 60_000;

/** The call was given up because somebody wanted it so. */
export class Cut extends Error {}

export class Wire {
  readonly #server: string;
  readonly #headers: Record<string, string>;
  readonly #agent: Agent | undefined;

  constructor(server: string, token: string | undefined, caFile?: string) {
    if (!/^https?:$/.test(new URL(server).protocol)) throw new TypeError(`not the address of a server: ${server}`);
    this.#server = server.replace(/\/+$/, "");
    this.#headers = token ? { authorization: `Bearer ${token}` } : {};
    if (caFile && new URL(server).protocol === "https:") this.#agent = trusting(caFile);
  }

  /**
   * What `read` makes of the answer. Tries again where there is none, or none that can be read. Rejects with `Problem`
   * where the server refuses, `Unreachable` or the last `Problem` where `keepTrying` gives up.
   */
  async call<T>(call: Call<T>): Promise<T> {
    const body = call.body === undefined ? null : toJson(call.body);
    const headers = new Headers({ ...this.#headers, ...call.headers });
    if (body !== null) headers.set("content-type", "application/json");
    const pauses = pausesMs();
    for (;;) {
      let pauseMs = pauses.next().value;
      let failed: Error;
      const sentAt = performance.now();
      try {
        const { status, retryAfterMs, text } = await this.#exchange(call, { headers, body });
        if (status >= 200 && status < 300) return call.read(text === "" ? null : fromJson(text), sentAt);
        failed = Problem.read(status, jsonOrNull(text));
        pauseMs = Math.max(pauseMs, retryAfterMs);
      } catch (error) {
        if (call.signal?.aborted) throw new Cut();
        failed = new Unreachable(`${this.#server}: ${said(error)}`);
      }
      if (isFinal(failed) || !(await call.keepTrying(failed, pauseMs))) throw failed;
    }
  }

  async #exchange(
    { method, path, waitMs = 0, allowanceMs = PATIENCE_MS, signal }: Call<unknown>,
    sent: { headers: Headers; body: string | null },
  ) {
    signal?.throwIfAborted();
    const over = new AbortController();
    const late = setTimeout(() => over.abort(new Error("no answer in time")), waitMs + allowanceMs);
    const cut = () => over.abort(new Cut());
    signal?.addEventListener("abort", cut);
    try {
      const request = { ...sent, url: this.#server + path, method, signal: over.signal };
      const { status, retryAfter, text } = await (this.#agent ? send(this.#agent, request) : fetched(request));
      const retryAfterMs = /^\d+$/.test(retryAfter) ? Math.min(Number(retryAfter) * 1000, RETRY_AFTER_MAX_MS) : 0;
      return { status, retryAfterMs, text };
    } finally {
      clearTimeout(late);
      signal?.removeEventListener("abort", cut);
    }
  }
}

async function fetched({ url, ...options }: Request): Promise<Answer> {
  const response = await fetch(url, { ...options, redirect: "manual" });
  return { status: response.status, retryAfter: response.headers.get("retry-after") ?? "", text: await response.text() };
}

/** Tries again until so much time has passed. */
export function tryFor(patienceMs: number): KeepTrying {
  const end = Date.now() + patienceMs;
  return async (_failed, pauseMs) => {
    if (Date.now() + pauseMs > end) return false;
    await pause(pauseMs);
    return true;
  };
}

/** Between tries: twice as long each time up to a bound, and never two callers in step. */
export function* pausesMs(): Generator<number, never> {
  for (let ms = FIRST_PAUSE_MS; ; ms = Math.min(ms * 2, LONGEST_PAUSE_MS)) yield ms * (0.5 + Math.random() / 2);
}

/** Whether that is the answer. `behind` is for whoever asked for a position: asking again is up to them. */
function isFinal(failed: Error): boolean {
  return failed instanceof Problem && (!failed.retryable || failed.code === "behind");
}

/** A refusal need not be JSON: a proxy may have made it. */
function jsonOrNull(text: string): unknown {
  try {
    return fromJson(text);
  } catch {
    return null;
  }
}

/** `fetch` says why only in the cause. */
function said(error: unknown): string {
  const { message, cause } = error as Error;
  return cause instanceof Error ? cause.message || String((cause as NodeJS.ErrnoException).code) : message;
}
