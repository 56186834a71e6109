/** How an attempt ends: the outcome of its handler, and the one in its place if the server refuses that. */
import { Cancelled, CODE_MAX, type Context, type Done, Failure, LeaseLost, line, Released } from "./context.js";
import { Problem } from "./errors.js";
import { toJson } from "./exact.js";

/** Does the work of one attempt. Any error but those of `context` is a failure that may be tried again. */
export type Handler = (ctx: Context) => Promise<Done | void> | Done | void;

/** Leases of one heartbeat, ends of one batch; and the characters of such a batch. */
export const LEASES_MAX = 1000;
const ENDS_CHARS_MAX = 4 * 1024 * 1024;

export interface Outcome {
  outcome: "succeeded" | "failed" | "cancelled" | "released";
  message?: string | undefined;
  result?: unknown;
  error?: { code: string; message: string };
  retryable?: boolean;
}

/** How an attempt ended. `again`: sent in place of an end that the server refused. */
export interface End {
  context: Context;
  outcome: Outcome;
  again?: boolean;
}

/** Runs the handler; its outcome, or nothing where the lease is lost and nothing is reported. */
export async function run(
  handler: Handler,
  context: Context,
  log: (line: string) => void,
): Promise<Outcome | undefined> {
  try {
    const done = (await handler(context)) ?? {};
    return checked({ outcome: "succeeded", message: done.message, result: done.result });
  } catch (thrown) {
    const error = stoppedBy(thrown, context);
    if (error instanceof LeaseLost) return undefined;
    if (error instanceof Released) return { outcome: "released" };
    if (error instanceof Cancelled) {
      return checked({ outcome: "cancelled", message: error.message, result: error.result });
    }
    if (error instanceof Failure) return failure(error.code, error.message, error.retryable);
    log(`taskbell: task ${context.taskId}: ${error instanceof Error ? error.stack : String(error)}`);
    return failure("exception", String(error), true);
  }
}

/** What was thrown; the reason of the context's signal, if an API that was given the signal threw its own error. */
function stoppedBy(thrown: unknown, { signal, interruptSignal }: Context): unknown {
  const aborted = signal.aborted && thrown instanceof Error && thrown.name === "AbortError";
  return aborted ? (interruptSignal.aborted ? interruptSignal.reason : signal.reason) : thrown;
}

/** An outcome as it can be sent. A cancelled attempt stays cancelled, even if its result can't be sent. */
function checked(given: Outcome): Outcome {
  const message = line(given.message ?? "");
  const outcome = { ...given, message: message === "" ? undefined : message };
  try {
    toJson(outcome);
    return outcome;
  } catch (error) {
    if (given.outcome === "cancelled") return { outcome: "cancelled" };
    return failure("invalid_result", `the result is no JSON: ${(error as Error).message}`, false);
  }
}

function failure(code: string, message: string, retryable: boolean): Outcome {
  const error = { code: line(code, CODE_MAX) || "failed", message: line(message) || line(code) || "failed" };
  return { outcome: "failed", error, retryable };
}

export function* batches(ends: End[]): Generator<End[]> {
  let batch: End[] = [];
  let size = 0;
  for (const end of ends) {
    const more = toJson(end.outcome).length;
    if (batch.length === LEASES_MAX || (batch.length > 0 && size + more > ENDS_CHARS_MAX)) {
      yield batch;
      [batch, size] = [[], 0];
    }
    batch.push(end);
    size += more;
  }
  if (batch.length > 0) yield batch;
}

/** The end in place of one that the server refuses: without any end the task would run again and again. */
export function instead({ context, outcome }: End, refused: Problem): End {
  if (outcome.outcome === "cancelled" && refused.code !== "not_cancelling") {
    return { context, outcome: { outcome: "cancelled" }, again: true };
  }
  return { context, outcome: failure(refused.code, refused.detail, false), again: true };
}

/** The answer to one end: null if it is recorded. */
export function readEnd(item: any): Problem | null {
  return item.status !== undefined ? null : Problem.read(Number(item.problem.status), item.problem);
}
