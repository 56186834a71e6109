// The events of a task as a timeline, and the three steps of a cancel.
import { h, updateChildren } from "./dom.js";
import { localAndUtc, shortTime, duration, verdictText } from "./format.js";
import { icon } from "./icons.js";
import { writeJson } from "./json.js";

const DESCRIPTIONS = {
  Created: () => "Requested",
  Queued: ({ reason }) => (reason === "retry_at" ? "Ready for the next attempt" : "Start time reached: ready to run"),
  Started: ({ attempt }) => `Attempt ${attempt} started`,
  CancelRequested: () => "Cancel requested",
  CancelAcknowledged: ({ stopping_after }) => (stopping_after ? `Cancel acknowledged: stops after ${stopping_after}` : "Cancel acknowledged: stops now"),
  CancelEscalated: ({ rung }) => (rung === "revoke" ? "Ended by force: the lease was revoked" : "Interrupted: the worker must stop now"),
  AttemptFailed: ({ attempt, error }) => `Attempt ${attempt} failed: ${error?.message ?? "no reason given"}`,
  Released: ({ attempt, reason }) => `Attempt ${attempt} ${reason === "not_delivered" ? "was not delivered to its worker" : "was returned to the queue"}`,
  OutputKept: ({ attempt }) => `Output of attempt ${attempt} stored`,
  Completed: ({ outcome, forced, message, error }) => [forced ? "Ended by force" : { succeeded: "Succeeded", failed: "Failed", cancelled: "Cancelled" }[outcome], message ?? error?.message].filter(Boolean).join(": "),
  Retried: () => "Run again",
};
const EVENT_ICONS = { Created: "scheduled", Queued: "queued", Started: "running", CancelRequested: "cross", CancelAcknowledged: "cancelling", CancelEscalated: "failed", AttemptFailed: "retrying", Released: "again", OutputKept: "scheduled", Retried: "again" };
const VIA_TEXTS = { http: "over HTTP", cli: "on the command line", worker: "as a worker", scheduler: "by the server", library: "from a program" };

/** A value as JSON text, folded below a label. */
export function jsonElement(label, value, open = false) {
  return h("details", { class: "json", open }, h("summary", null, label), h("pre", { tabindex: "0" }, writeJson(value)));
}

/** The last bytes of an attempt's output, and how many bytes before them were dropped. */
export function outputElement({ attempt, tail, dropped_bytes }) {
  const before = dropped_bytes ? ` · ${dropped_bytes.toLocaleString()} bytes before it were not stored` : "";
  return h("details", { class: "json", open: true }, h("summary", null, `Attempt ${attempt}${before}`), h("pre", { tabindex: "0", "aria-label": "Output" }, tail.replaceAll("\r\n", "\n")));
}

function eventItem(event, previous) {
  const { type, data, meta, time } = event;
  const iconName = type === "Completed" ? (data.outcome ?? "succeeded") : (EVENT_ICONS[type] ?? "scheduled");
  const gap = previous ? `+${duration(Date.parse(time) - Date.parse(previous.time))}` : "";
  const source = [meta.actor, VIA_TEXTS[meta.via] ?? meta.via].filter(Boolean).join(", ");
  const line = h("div", { class: "line" }, h("b", null, DESCRIPTIONS[type]?.(data) ?? type), h("span", { class: "gap", title: "Time since the previous event" }, gap));
  const when = h("time", { datetime: time, "data-tip": localAndUtc(time), tabindex: "0" }, shortTime(time));
  const small = h("div", { class: "small muted" }, when, ` · ${source}`, data.reason && type.startsWith("Cancel") ? ` · “${data.reason}”` : null);
  return h("li", { "data-status": iconName }, h("span", { class: "mark" }, icon(iconName)), h("div", { class: "row-main" }, line, small, jsonElement(`${type} · revision ${event.revision} · position ${event.position}`, data)));
}

/** Adds the new events. Existing elements stay, so that unfolded JSON stays unfolded. */
export function drawTimeline(list, events) {
  const index = new Map(events.map((event, i) => [event.id, i]));
  updateChildren(list, events, ({ id }) => id, (event) => eventItem(event, events[index.get(event.id) - 1]), () => {});
}

function cancelStep(state, title, lines) {
  return h("li", { "data-state": state }, h("span", { class: "mark" }, icon(state === "done" ? "succeeded" : "running")), h("div", null, h("b", null, title), ...lines.filter(Boolean).map((line) => h("span", { class: "small muted" }, line))));
}

/** Draws the three steps of a cancel (requested, acknowledged, ended), with the person or worker and the time of each. */
export function drawCancel(list, task, events) {
  const { cancel } = task;
  const key = JSON.stringify([cancel, task.status, task.finished_at]);
  list.hidden = !cancel;
  if (!cancel || list.dataset.shown === key) return;
  list.dataset.shown = key;
  const lastEvent = (type) => events.findLast((event) => event.type === type);
  const acknowledgement = lastEvent("CancelAcknowledged");
  const completedEvent = task.finished_at ? lastEvent("Completed") : null;
  const acknowledged = cancel.acknowledged_at
    ? cancelStep("done", "Acknowledged", [`${shortTime(cancel.acknowledged_at)} by ${acknowledgement?.meta.actor ?? task.worker ?? "its worker"}`, cancel.stopping_after ? `stops after: ${cancel.stopping_after}` : "stops at once", cancel.expected_end && `expected end ${shortTime(cancel.expected_end)}`])
    : cancelStep(task.finished_at ? "skipped" : "now", task.finished_at ? "Never acknowledged" : "Waiting for the worker's acknowledgement", []);
  const end = task.finished_at
    ? cancelStep("done", verdictText(cancel.verdict) ?? "Ended", [`${shortTime(task.finished_at)}${completedEvent ? ` by ${completedEvent.meta.actor}` : ""}`, task.outcome?.message])
    : cancelStep(cancel.acknowledged_at ? "now" : "todo", "Not stopped yet", [cancel.rung && cancel.rung !== "ask" ? "interrupted: the worker must stop now" : null]);
  list.replaceChildren(cancelStep("done", "Requested", [`${shortTime(cancel.requested_at)} by ${cancel.requested_by}`, cancel.reason && `“${cancel.reason}”`]), acknowledged, end);
}

