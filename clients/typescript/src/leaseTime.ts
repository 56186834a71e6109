/**
 * The server's answers about leases, and how long a lease is held.
 *
 * An answer says how much time is left to a lease, counted from the sending of the answer; no clocks are compared. The worker
 * must never believe that it has longer than that, but it doesn't know when the answer was sent. A heartbeat's answer was sent
 * no earlier than the heartbeat: its time counts from there. A request for leases may wait for long: its time counts from the
 * arrival of the answer, and half of it is a margin for the answer's way. The first heartbeat, which is sent at once, replaces
 * that.
 */
import type { Context, Lease } from "./context.js";

/** The least that a heartbeat waits. */
const BEAT_MIN_MS = 50;

/**
 * A third of the time that is left to the first of these leases. A heartbeat waits so long for directives at most, and so
 * long for its answer beyond that: if it is lost, a third is left for another, which waits for none.
 */
export function thirdOfTimeLeft(contexts: Context[]): number {
  const leftMs = Math.min(...contexts.map((context) => context.deadline)) - performance.now();
  return Math.max(leftMs / 3, BEAT_MIN_MS);
}

export function readLeases(answer: any): Lease[] {
  return answer.leases.map((lease: Lease) => {
    if (typeof lease.lease !== "string" || typeof lease.kind !== "string") throw new TypeError("no lease");
    return lease;
  });
}

/** The directives by lease, and when the first lease ends, by `performance.now()`. */
export function readBeat({ directives, left_ms }: any, sentAt: number) {
  const read = ({ lease, directive }: any) => ({ lease: String(lease), directive: String(directive) });
  const deadline = typeof left_ms === "number" ? sentAt + left_ms : -Infinity;
  return { directives: directives.map(read) as { lease: string; directive: string }[], deadline };
}
