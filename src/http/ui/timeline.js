// The history of a task, event by event, and the three facts of a cancel.
import { h, keyed } from "./dom.js";
import { absolute, moment, duration, verdict } from "./format.js";
import { icon } from "./icons.js";

const SAYS = {
  Created: () => "Asked for",
  Queued: ({ reason }) => (reason === "retry_at" ? "Ready for the next attempt" : "Its time has come"),
  Started: ({ attempt }) => `Attempt ${attempt} started`,
  CancelRequested: () => "Cancel requested",
  CancelAcknowledged: ({ stopping_after }) => (stopping_after ? `Cancel acknowledged: stops after ${stopping_after}` : "Cancel acknowledged: stops now"),
  CancelEscalated: ({ rung }) => (rung === "revoke" ? "Stopped by force: the lease was taken away" : "Told to stop now"),
  AttemptFailed: ({ attempt, error }) => `Attempt ${attempt} failed: ${error?.message ?? "no reason given"}`,
  Released: ({ attempt, reason }) => `Attempt ${attempt} ${reason === "not_delivered" ? "never reached its worker" : "was handed back"}`,
  OutputKept: ({ attempt }) => `Output of attempt ${attempt} kept`,
  Completed: ({ outcome, forced, message, error }) => [forced ? "Stopped by force" : { succeeded: "Succeeded", failed: "Failed", cancelled: "Cancelled" }[outcome], message ?? error?.message].filter(Boolean).join(": "),
  Retried: () => "Run again",
};
const LOOKS = { Created: "scheduled", Queued: "queued", Started: "running", CancelRequested: "cross", CancelAcknowledged: "cancelling", CancelEscalated: "failed", AttemptFailed: "retrying", Released: "again", OutputKept: "scheduled", Retried: "again" };
const VIA = { http: "over HTTP", cli: "on the command line", worker: "as a worker", scheduler: "by a timer", library: "from a program" };

/** JSON as text: exact, escaped by nature, behind a summary. */
export function json(label, value, open = false) {
  return h("details", { class: "json", open }, h("summary", null, label), h("pre", { tabindex: "0" }, JSON.stringify(value, null, 2)));
}

/** What an attempt wrote: the end of it, and how much came before. */
export function written({ attempt, tail, dropped_bytes }) {
  const before = dropped_bytes ? ` · ${dropped_bytes.toLocaleString()} bytes before it were not kept` : "";
  return h("details", { class: "json", open: true }, h("summary", null, `Attempt ${attempt}${before}`), h("pre", { tabindex: "0", "aria-label": "Output" }, tail));
}

function entry(event, before) {
  const { type, data, meta, time } = event;
  const look = type === "Completed" ? (data.outcome ?? "succeeded") : (LOOKS[type] ?? "scheduled");
  const gap = before ? `+${duration(Date.parse(time) - Date.parse(before.time))}` : "";
  const said = [meta.actor, VIA[meta.via] ?? meta.via].filter(Boolean).join(", ");
  const line = h("div", { class: "line" }, h("b", null, SAYS[type]?.(data) ?? type), h("span", { class: "gap", title: "After the event before" }, gap));
  const when = h("time", { datetime: time, "data-tip": absolute(time), tabindex: "0" }, moment(time));
  const small = h("div", { class: "small muted" }, when, ` · ${said}`, data.reason && type.startsWith("Cancel") ? ` · “${data.reason}”` : null);
  return h("li", { "data-status": look }, h("span", { class: "mark" }, icon(look)), h("div", { class: "what" }, line, small, json(`${type} · revision ${event.revision} · position ${event.position}`, data)));
}

/** Adds what is new; what is shown, and opened, stays. */
export function drawTimeline(list, events) {
  const index = new Map(events.map((event, i) => [event.id, i]));
  keyed(list, events, ({ id }) => id, (event) => entry(event, events[index.get(event.id) - 1]), () => {});
}

function step(state, title, lines) {
  return h("li", { "data-state": state }, h("span", { class: "mark" }, icon(state === "done" ? "succeeded" : "running")), h("div", null, h("b", null, title), ...lines.filter(Boolean).map((line) => h("span", { class: "small muted" }, line))));
}

/** Requested, acknowledged, ended: who, when, and what was stopped after. */
export function drawCancel(list, task, events) {
  const { cancel } = task;
  const key = JSON.stringify([cancel, task.status, task.finished_at]);
  list.hidden = !cancel;
  if (!cancel || list.dataset.shown === key) return;
  list.dataset.shown = key;
  const last = (type) => events.findLast((event) => event.type === type);
  const heard = last("CancelAcknowledged");
  const ended = task.finished_at ? last("Completed") : null;
  const acknowledged = cancel.acknowledged_at
    ? step("done", "Acknowledged", [`${moment(cancel.acknowledged_at)} by ${heard?.meta.actor ?? task.worker ?? "its worker"}`, cancel.stopping_after ? `stops after: ${cancel.stopping_after}` : "stops at once", cancel.expected_end && `expected end ${moment(cancel.expected_end)}`])
    : step(task.finished_at ? "skipped" : "now", task.finished_at ? "Never acknowledged" : "Waits for the worker to hear it", []);
  const end = task.finished_at
    ? step("done", verdict(cancel.verdict) ?? "Ended", [`${moment(task.finished_at)}${ended ? ` by ${ended.meta.actor}` : ""}`, task.outcome?.message])
    : step(cancel.acknowledged_at ? "now" : "todo", "Not stopped yet", [cancel.rung && cancel.rung !== "ask" ? "told to stop now" : null]);
  list.replaceChildren(step("done", "Requested", [`${moment(cancel.requested_at)} by ${cancel.requested_by}`, cancel.reason && `“${cancel.reason}”`]), acknowledged, end);
}

