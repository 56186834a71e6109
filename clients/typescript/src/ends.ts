/** How an attempt ends: what its handler did, as it may be told; and what is said where the server refuses that. */
import { Cancelled, CODE_MAX, type Context, type Done, Failure, LeaseLost, line, Released } from "./context.js";
import { Problem } from "./errors.js";

/** Does the work of one attempt. Any error but those of `context` is a failure that may be tried again. */
export type Handler = (ctx: Context) => Promise<Done | void> | Done | void;

/** Leases of one heartbeat, ends of one batch; and the characters of such a batch. */
export const LEASES_MAX = 1000;
const ENDS_CHARS_MAX = 4 * 1024 * 1024;

export interface Said {
  outcome: "succeeded" | "failed" | "cancelled" | "released";
  message?: string | undefined;
  result?: unknown;
  error?: { code: string; message: string };
  retryable?: boolean;
}

/** How an attempt ended. `again`: this is what is said in place of an end that the server refused. */
export interface End {
  context: Context;
  said: Said;
  again?: boolean;
}

/** Runs it; how the attempt ended, or nothing where nothing is to be said of it. */
export async function run(
  handler: Handler,
  context: Context,
  log: (line: string) => void,
): Promise<Said | undefined> {
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

/** What was thrown; where it came of the context's signal in other hands, the reason of that. */
function stoppedBy(thrown: unknown, { signal, interruptSignal }: Context): unknown {
  const aborted = signal.aborted && thrown instanceof Error && thrown.name === "AbortError";
  return aborted ? (interruptSignal.aborted ? interruptSignal.reason : signal.reason) : thrown;
}

/** An end as it can be told. One that was asked for is no failure, whatever it gave. */
function checked(said: Said): Said {
  const message = line(said.message ?? "");
  said = { ...said, message: message === "" ? undefined : message };
  try {
    JSON.stringify(said);
    return said;
  } catch (error) {
    if (said.outcome === "cancelled") return { outcome: "cancelled" };
    return failure("invalid_result", `the result is no JSON: ${(error as Error).message}`, false);
  }
}

function failure(code: string, message: string, retryable: boolean): Said {
  const error = { code: line(code, CODE_MAX) || "failed", message: line(message) || line(code) || "failed" };
  return { outcome: "failed", error, retryable };
}

export function* batches(ends: End[]): Generator<End[]> {
  let batch: End[] = [];
  let size = 0;
  for (const end of ends) {
    const more = JSON.stringify(end.said).length;
    if (batch.length === LEASES_MAX || (batch.length > 0 && size + more > ENDS_CHARS_MAX)) {
      yield batch;
      [batch, size] = [[], 0];
    }
    batch.push(end);
    size += more;
  }
  if (batch.length > 0) yield batch;
}

/** What is said in place of an end that can't be recorded as it is: else the attempt would begin anew for ever. */
export function instead({ context, said }: End, refused: Problem): End {
  if (said.outcome === "cancelled" && refused.code !== "not_cancelling") {
    return { context, said: { outcome: "cancelled" }, again: true };
  }
  return { context, said: failure(refused.code, refused.detail, false), again: true };
}

/** Null where it is recorded. */
export function readEnd(item: any): Problem | null {
  return item.status !== undefined ? null : Problem.read(Number(item.problem.status), item.problem);
}
