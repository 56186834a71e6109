// Times, durations, numbers and words, for people. Pure.

const numbers = new Intl.NumberFormat();
const relative = new Intl.RelativeTimeFormat(undefined, { numeric: "auto" });
const localLong = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium" });
const localClock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" });
const localDay = new Intl.DateTimeFormat(undefined, { day: "numeric", month: "short", year: "numeric" });
const plural = new Intl.PluralRules("en");

export const number = (n) => numbers.format(n);
export const clock = (at) => localClock.format(new Date(at));
const dayOf = (at) => new Date(at).toDateString();

/** The time of day, with the day where it isn't today. */
export const moment = (at) => (dayOf(at) === dayOf(Date.now()) ? clock(at) : `${localDay.format(new Date(at))}, ${clock(at)}`);

export const count = (n, one, other) => `${number(n)} ${plural.select(n) === "one" ? one : other}`;

/** Local and UTC, both in full: nobody has to guess the zone. */
export function absolute(at) {
  const date = new Date(at);
  const zone = Intl.DateTimeFormat().resolvedOptions().timeZone;
  return `${localLong.format(date)} (${zone}) · ${date.toISOString().slice(0, 23).replace("T", " ")} UTC`;
}

/** "2 min ago", "in 5 s"; the server's clock decides what now is. */
export function ago(at, now) {
  const seconds = Math.round((Date.parse(at) - now) / 1000);
  const size = Math.abs(seconds);
  if (size < 1) return "now";
  if (size < 60) return relative.format(seconds, "second");
  if (size < 3600) return relative.format(Math.trunc(seconds / 60), "minute");
  if (size < 86_400) return relative.format(Math.trunc(seconds / 3600), "hour");
  return relative.format(Math.trunc(seconds / 86_400), "day");
}

/** Never negative, whatever the clocks say. */
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

/** A running clock in whole seconds, so that it doesn't flicker. */
export const ticking = (ms) => duration(Math.floor(Math.max(0, ms) / 1000) * 1000 || 0).replace(/^0 ms$/, "0 s").replace(/^(\d)\.0 s$/, "$1 s");

/** The milliseconds of the last run so far, or nothing where none started. */
export function elapsed(task, now) {
  if (!task.started_at || task.status === "retrying" || task.status === "queued") return null;
  if (task.finished_at) return task.duration_ms ?? Date.parse(task.finished_at) - Date.parse(task.started_at);
  return now - Date.parse(task.started_at);
}

const WORDS = {
  scheduled: "Scheduled", queued: "Queued", running: "Running", cancelling: "Cancelling", retrying: "Retrying",
  succeeded: "Succeeded", failed: "Failed", cancelled: "Cancelled",
};
export const word = (status) => WORDS[status] ?? status;

const VERDICTS = {
  cancelled: "Cancelled",
  finished_first: "Finished before the cancel took effect",
  failed_first: "Failed before the cancel took effect",
  forced: "Stopped by force",
};
export const verdict = (name) => VERDICTS[name] ?? null;

const WAITS = {
  worker: "Waits for a worker that does this kind of work", limit: "Waits for a free slot", paused: "Its queue is paused",
};

const cancelling = ({ requested_at, requested_by, acknowledged_at, stopping_after, expected_end, rung }, now) => {
  const asked = `asked ${ago(requested_at, now)} by ${requested_by}`;
  if (rung === "interrupt") return { text: "Told to stop now", more: asked };
  if (!acknowledged_at) return { text: `Cancelling… ${asked}`, more: null };
  if (!stopping_after) return { text: "Stopping now", more: asked };
  const late = expected_end && Date.parse(expected_end) <= now;
  const when = expected_end ? (late ? "longer than expected · " : `expected ${ago(expected_end, now)} · `) : "";
  return { text: `Stops after: ${stopping_after}`, more: when + asked };
};

/** What the Outcome column says: one line, and what stands beneath it. Says "cancelled" of nothing that still runs. */
export function outcome(task, now) {
  const { status, cancel, outcome: end } = task;
  if (status === "cancelling" && cancel) return cancelling(cancel, now);
  if (status === "scheduled" && task.run_at) return { text: `Starts ${ago(task.run_at, now)}`, more: null };
  if (status === "retrying") {
    const when = task.retry_at ? `Tries again ${ago(task.retry_at, now)}` : "Tries again";
    return { text: when, more: end?.error?.message ?? end?.message ?? null, code: end?.error?.code ?? null };
  }
  if (status === "queued") return { text: WAITS[task.waiting_for] ?? "Waits for its turn", more: null };
  if (status === "running") return { text: "", more: null };
  const said = end?.message ?? end?.error?.message ?? null;
  const judged = cancel ? verdict(cancel.verdict) : null;
  const text = judged ?? said ?? word(status);
  return { text, more: judged && said ? said : null, code: end?.error?.code ?? null };
}

/** The bell's accessible name. */
export function bellName({ counts, unseen, link }) {
  if (!counts) return "Tasks: connecting";
  const waiting = counts.queued + counts.scheduled + counts.retrying;
  const parts = [
    [counts.running, "running"], [counts.cancelling, "cancelling"], [waiting, "waiting"],
    [unseen.failed, "failed"], [unseen.succeeded, "succeeded"], [unseen.cancelled, "cancelled"],
  ].filter(([n]) => n > 0).map(([n, name]) => `${number(n)} ${name}`);
  return `Tasks: ${parts.length ? parts.join(", ") : "nothing running, nothing new"}, ${link}`;
}

/** Where the numbers come from, and how old they are. */
export function linkText({ link, since, position }) {
  if (link === "live") return `Live · log position ${number(position)}`;
  if (link === "connecting") return "Connecting…";
  return `${link === "stale" ? "Stale" : "Reconnecting… numbers as"} ${link === "stale" ? "since" : "of"} ${clock(since)}`;
}
