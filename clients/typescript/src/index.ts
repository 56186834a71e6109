/**
 * Background tasks behind a bell: ask for work, see it, stop it (`Client`), and do it (`Worker`).
 *
 * Read in this order: `errors`, `exact` (JSON whose numbers stay as written), `wire` (one call, repeated until it is
 * answered), `client`, `context` (one attempt, as its handler sees it), `ends` (how an attempt may end), `leaseTime` (how
 * long a lease is held), `worker` (the three loops: take, listen, tell).
 */
export { Client, FINAL, type ClientOptions, type Status, type SubmitOptions, type Task } from "./client.js";
export { Cancelled, Context, Failure, Interrupted, LeaseLost, Released, type Done } from "./context.js";
export { type Handler } from "./ends.js";
export { Problem, TaskbellError, Unreachable, type FieldError } from "./errors.js";
export { ExactNumber } from "./exact.js";
export type { WorkerOptions } from "./options.js";
export { Worker } from "./worker.js";
