/** The settings of a worker. */
import type { Client } from "./client.js";

export interface WorkerOptions {
  client?: Client;
  /** The most attempts at once. */
  concurrency?: number;
  /** Takes tasks from these queues only. */
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
  /** Called with a line for each thing that goes wrong. */
  log?: (line: string) => void;
}
