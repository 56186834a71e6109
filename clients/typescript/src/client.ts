/** For whoever wants work done: submit, get, wait, cancel. */
import { randomUUID } from "node:crypto";
import { setTimeout as pause } from "node:timers/promises";
import { Problem } from "./errors.js";
import { type Call, tryFor, Wire } from "./wire.js";

export type Status =
  | "scheduled"
  | "queued"
  | "running"
  | "cancelling"
  | "retrying"
  | "succeeded"
  | "failed"
  | "cancelled";

/** A task in one of these has ended, until somebody has it run again. */
export const FINAL: ReadonlySet<Status> = new Set<Status>(["succeeded", "failed", "cancelled"]);

/** How long the server keeps a read that asks for a position it hasn't reached. */
const BEHIND_MS = 5_000;
const FIRST_LOOK_MS = 20;
const LONGEST_LOOK_MS = 1_000;

/** A task as the server tells it. Times are RFC 3339 in UTC; what is absent is null, never missing. */
export interface Task {
  id: string;
  kind: string;
  title: string;
  owner: string;
  queue: string;
  priority: number;
  labels: Record<string, string>;
  parent: string | null;
  status: Status;
  waiting_for: string | null;
  attempt: number;
  max_attempts: number;
  worker: string | null;
  created_at: string;
  run_at: string | null;
  started_at: string | null;
  finished_at: string | null;
  duration_ms: number | null;
  retry_at: string | null;
  timeout_s: number | null;
  progress: { fraction: number | null; message: string | null; at: string } | null;
  outcome: { message: string | null; error: { code: string; message: string } | null } | null;
  cancel: {
    requested_at: string;
    requested_by: string;
    reason: string | null;
    acknowledged_at: string | null;
    stopping_after: string | null;
    expected_end: string | null;
    rung: string | null;
    verdict: "cancelled" | "finished_first" | "failed_first" | "forced" | null;
  } | null;
  revision: number;
  position: number;
  input: unknown;
  result: unknown;
}

export interface SubmitOptions {
  /** The same key gives the same task. */
  idempotencyKey?: string;
  title?: string;
  queue?: string;
  priority?: number;
  runAt?: Date;
  maxAttempts?: number;
  timeoutS?: number;
  labels?: Record<string, string>;
  owner?: string;
  parent?: string;
  uniqueKey?: string;
  concurrencyKey?: string;
}

export interface ClientOptions {
  /** TASKBELL_SERVER, or http://127.0.0.1:7070, where it is not given. */
  server?: string;
  /** TASKBELL_TOKEN where it is not given. */
  token?: string;
  /**
   * A PEM file with certificates of authorities that are trusted besides those that Node knows; TASKBELL_CA_FILE where it is
   * not given. It matters for https.
   */
  caFile?: string;
  /** How long a call that gets no answer is repeated. */
  patienceMs?: number;
}

export class Client {
  /** @internal */
  readonly wire: Wire;
  readonly #patienceMs: number;

  constructor(options: ClientOptions = {}) {
    const server = options.server ?? process.env["TASKBELL_SERVER"] ?? "http://127.0.0.1:7070";
    const token = options.token ?? process.env["TASKBELL_TOKEN"];
    this.wire = new Wire(server, token, options.caFile ?? process.env["TASKBELL_CA_FILE"]);
    this.#patienceMs = options.patienceMs ?? 30_000;
  }

  /** Asks for work, once: when this resolves, it is durable. */
  submit(kind: string, input?: unknown, options: SubmitOptions = {}): Promise<Task> {
    const { idempotencyKey, title, queue, priority, labels, owner, parent } = options;
    const body = {
      ...{ kind, input, title, queue, priority, labels, owner, parent },
      run_at: options.runAt?.toISOString(),
      max_attempts: options.maxAttempts,
      timeout_s: options.timeoutS,
      unique_key: options.uniqueKey,
      concurrency_key: options.concurrencyKey,
    };
    // Without a key of the caller's, one for this call: else a repeated try could create a second task.
    const headers = { "idempotency-key": idempotencyKey ?? randomUUID() };
    return this.#call({ method: "POST", path: "/v1/tasks", body, headers });
  }

  /** The task, as of `minPosition` or later: `Problem` `behind` where the server doesn't get there in 5 s. */
  get(id: string, options: { minPosition?: number | undefined; signal?: AbortSignal | undefined } = {}): Promise<Task> {
    const { minPosition, signal } = options;
    const query = minPosition === undefined ? "" : `?min_position=${minPosition}`;
    const waitMs = minPosition === undefined ? 0 : BEHIND_MS;
    return this.#call({ method: "GET", path: path(id) + query, waitMs, signal });
  }

  /**
   * The task when it has ended, in whatever way. Rejects when `signal` aborts: `AbortSignal.timeout(ms)` bounds it.
   *
   * A read for the next position of the log comes back when anything happens at all. On a busy server that is at once,
   * so it looks less often the longer nothing happens to this task.
   */
  async wait(id: string, { signal }: { signal?: AbortSignal | undefined } = {}): Promise<Task> {
    try {
      let task = await this.get(id, { signal });
      let position = task.position;
      let pauseMs = FIRST_LOOK_MS;
      while (!FINAL.has(task.status)) {
        const minPosition = Math.max(position, task.position) + 1;
        const newer = await this.get(id, { minPosition, signal }).catch(nullIfBehind);
        if (newer === null) continue;
        position = minPosition;
        if (newer.revision === task.revision) {
          await pause(pauseMs, undefined, { signal });
          pauseMs = Math.min(pauseMs * 1.5, LONGEST_LOOK_MS);
        } else {
          pauseMs = FIRST_LOOK_MS;
        }
        task = newer;
      }
      return task;
    } catch (error) {
      throw signal?.aborted ? signal.reason : error;
    }
  }

  /** Asks for the task to stop. What runs is `cancelling` until it has stopped; what has ended stays so. */
  cancel(id: string, reason?: string): Promise<Task> {
    return this.#call({ method: "POST", path: `${path(id)}/cancel`, body: { reason } });
  }

  #call(call: Omit<Call<Task>, "read" | "keepTrying">): Promise<Task> {
    return this.wire.call({ ...call, read: readTask, keepTrying: tryFor(this.#patienceMs) });
  }
}

const path = (id: string) => `/v1/tasks/${encodeURIComponent(id)}`;

function readTask(answer: Task): Task {
  const { id, status, revision, position } = answer;
  if (typeof id !== "string" || typeof status !== "string") throw new TypeError("no task");
  if (!Number.isInteger(revision) || !Number.isInteger(position)) throw new TypeError("no task");
  return answer;
}

function nullIfBehind(error: unknown): null {
  if (error instanceof Problem && error.code === "behind") return null;
  throw error;
}
