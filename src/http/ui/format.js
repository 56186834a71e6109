// Formats times, durations, numbers and words for people. Pure functions.

const numbers = new Intl.NumberFormat();
const relative = new Intl.RelativeTimeFormat(undefined, { numeric: "auto" });
const localLong = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium" });
const localClock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" });
const localDay = new Intl.DateTimeFormat(undefined, { day: "numeric", month: "short", year: "numeric" });
const plural = new Intl.PluralRules("en");

export const number = (n) => numbers.format(n);
export const clock = (at) => localClock.format(new Date(at));
const dayOf = (at) => new Date(at).toDateString();

/** The time of day, with the date if it isn't today. */
export const shortTime = (at) => (dayOf(at) === dayOf(Date.now()) ? clock(at) : `${localDay.format(new Date(at))}, ${clock(at)}`);

export const count = (n, one, other) => `${number(n)} ${plural.select(n) === "one" ? one : other}`;

/** The full local time with its time zone, and the full time in UTC. */
export function localAndUtc(at) {
  const date = new Date(at);
  const zone = Intl.DateTimeFormat().resolvedOptions().timeZone;
  return `${localLong.format(date)} (${zone}) · ${date.toISOString().slice(0, 23).replace("T", " ")} UTC`;
}

/** A relative time such as "2 minutes ago" or "in 5 seconds". `now` is the server's time in milliseconds. */
export function relativeTime(at, now) {
  const seconds = Math.round((Date.parse(at) - now) / 1000);
  const absoluteSeconds = Math.abs(seconds);
  if (absoluteSeconds < 1) return "now";
  if (absoluteSeconds < 60) return relative.format(seconds, "second");
  if (absoluteSeconds < 3600) return relative.format(Math.trunc(seconds / 60), "minute");
  if (absoluteSeconds < 86_400) return relative.format(Math.trunc(seconds / 3600), "hour");
  return relative.format(Math.trunc(seconds / 86_400), "day");
}

/** A duration with its units. A negative one, which differing clocks may cause, becomes zero. */
export function duration(ms) {
  const clamped = Math.max(0, ms);
  if (clamped < 1000) return `${Math.round(clamped)} ms`;
  if (clamped < 10_000) return `${(Math.floor(clamped / 100) / 10).toFixed(1)} s`;
  const s = Math.floor(clamped / 1000);
  if (s < 60) return `${s} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min ${s % 60} s`;
  if (s < 86_400) return `${Math.floor(s / 3600)} h ${Math.floor((s % 3600) / 60)} min`;
  return `${Math.floor(s / 86_400)} d ${Math.floor((s % 86_400) / 3600)} h`;
}

/** The duration of a running attempt, in whole seconds, so that the text changes once a second. */
export const runningDuration = (ms) => duration(Math.floor(Math.max(0, ms) / 1000) * 1000 || 0).replace(/^0 ms$/, "0 s").replace(/^(\d)\.0 s$/, "$1 s");

/** The milliseconds that the latest attempt has run; null if no attempt is running and none has finished the task. */
export function elapsed(task, now) {
  if (!task.started_at || task.status === "retrying" || task.status === "queued") return null;
  if (task.finished_at) return task.duration_ms ?? Date.parse(task.finished_at) - Date.parse(task.started_at);
  return now - Date.parse(task.started_at);
}

const STATUS_LABELS = {
  scheduled: "Scheduled", queued: "Queued", running: "Running", cancelling: "Cancelling", retrying: "Retrying",
  succeeded: "Succeeded", failed: "Failed", cancelled: "Cancelled",
};
export const statusLabel = (status) => STATUS_LABELS[status] ?? status;

const VERDICT_TEXTS = {
  cancelled: "Cancelled",
  finished_first: "Finished before the cancel took effect",
  failed_first: "Failed before the cancel took effect",
  forced: "Ended by force",
};
export const verdictText = (name) => VERDICT_TEXTS[name] ?? null;

const WAITING_TEXTS = {
  worker: "Waits for a worker that executes this kind", limit: "Waits for a free slot", paused: "Its queue is paused",
};

const cancellingOutcome = ({ requested_at, requested_by, acknowledged_at, stopping_after, expected_end, rung }, now) => {
  const requested = `requested ${relativeTime(requested_at, now)} by ${requested_by}`;
  if (rung === "interrupt") return { text: "Interrupted: the worker must stop now", detail: requested };
  if (!acknowledged_at) return { text: `Cancelling… ${requested}`, detail: null };
  if (!stopping_after) return { text: "Stopping now", detail: requested };
  const isLate = expected_end && Date.parse(expected_end) <= now;
  const when = expected_end ? (isLate ? "longer than expected · " : `expected ${relativeTime(expected_end, now)} · `) : "";
  return { text: `Stops after: ${stopping_after}`, detail: when + requested };
};

/** The texts of the column Outcome: one line, a detail below it, and the error's code. A task that still runs is never called "cancelled". */
export function outcome(task, now) {
  const { status, cancel, outcome: lastOutcome } = task;
  if (status === "cancelling" && cancel) return cancellingOutcome(cancel, now);
  if (status === "scheduled" && task.run_at) return { text: `Starts ${relativeTime(task.run_at, now)}`, detail: null };
  if (status === "retrying") {
    return { text: task.retry_at ? `Tries again ${relativeTime(task.retry_at, now)}` : "Tries again", detail: null };
  }
  if (status === "queued") return { text: WAITING_TEXTS[task.waiting_for] ?? "Ready to start", detail: null };
  if (status === "running") return { text: "", detail: null };
  const message = lastOutcome?.message ?? lastOutcome?.error?.message ?? null;
  const verdict = cancel ? verdictText(cancel.verdict) : null;
  const text = verdict ?? message ?? statusLabel(status);
  return { text, detail: verdict && message ? message : null, code: lastOutcome?.error?.code ?? null };
}

/** Whose tasks are shown. `choice` is "mine", "everyone", or null if it is another owner. */
export function whoseTasks(choice, owner) {
  if (choice) return choice === "everyone" ? "Everyone's tasks" : "Your tasks";
  return owner === null ? "Tasks" : `Tasks of ${owner}`;
}

/** The bell's accessible name. */
export function bellName({ counts, unseen, connection }) {
  if (!counts) return "Tasks: connecting";
  const waiting = counts.queued + counts.scheduled + counts.retrying;
  const parts = [
    [counts.running, "running"], [counts.cancelling, "cancelling"], [waiting, "waiting"],
    [unseen.failed, "failed"], [unseen.succeeded, "succeeded"], [unseen.cancelled, "cancelled"],
  ].filter(([n]) => n > 0).map(([n, name]) => `${number(n)} ${name}`);
  return `Tasks: ${parts.length ? parts.join(", ") : "nothing running, nothing new"}, ${connection}`;
}

/** The state of the connection, and the age of the counts that are shown. */
export function connectionText({ connection, since, position }) {
  if (connection === "live") return `Live · log position ${number(position)}`;
  if (connection === "connecting") return "Connecting…";
  return connection === "stale" ? `Stale since ${clock(since)}` : `Reconnecting… counts of ${clock(since)}`;
}
