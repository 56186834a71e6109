// <taskbell-task task-id="…">: one task and its events, updated live.
import { api, store } from "./api.js";
import { ROOT } from "./base.js";
import { setAttr, setChildren, h, openShadowRoot, setText } from "./dom.js";
import { localAndUtc, shortTime, duration, elapsed, outcome, runningDuration } from "./format.js";
import { icon } from "./icons.js";
import { writeJson } from "./json.js";
import { CancelButton, pageUrl, progressPart, statusPart, taskUrl } from "./parts.js";
import { FINAL, isNewer } from "./store.js";
import { drawCancel, drawTimeline, jsonElement, outputElement } from "./timeline.js";

const timeElement = (time) => (time ? h("time", { datetime: time, "data-tip": localAndUtc(time), tabindex: "0" }, shortTime(time)) : null);

/** Copies the value. Over plain HTTP there is no clipboard API, so the text of the element `from` is selected and copied. */
async function copy(value, from) {
  try {
    await navigator.clipboard.writeText(value);
  } catch {
    const range = document.createRange();
    range.selectNodeContents(from);
    const selection = getSelection();
    selection.removeAllRanges();
    selection.addRange(range);
    if (!document.execCommand("copy")) throw new Error("The browser doesn't allow it.");
    selection.removeAllRanges();
  }
}

class TaskbellTask extends HTMLElement {
  #id = "";
  #task = null;
  #events = [];
  #isLoading = false;
  #mustReload = false;
  #unsubscribers = [];

  connectedCallback() {
    this.#id = this.getAttribute("task-id");
    if (!this.ui) this.#build();
    const ticker = setInterval(() => this.#tick(), 1000);
    this.#unsubscribers = [
      store.listen((change) => change === "reset" && this.#load()),
      store.subscribe({ ids: [this.#id] }, (frameType, frame) => this.#handleFrame(frameType, frame)),
      () => clearInterval(ticker),
    ];
    store.start();
    this.#load();
  }

  disconnectedCallback() {
    for (const unsubscribe of this.#unsubscribers) unsubscribe();
  }

  #build() {
    const status = statusPart();
    const progress = progressPart();
    const title = h("h1", { tabindex: "-1" });
    const code = h("code", null, this.#id);
    const copied = h("span", { role: "status", class: "small muted" });
    const copyButton = h("button", { type: "button", class: "quiet icon-only", "aria-label": "Copy the id", onclick: () => copy(this.#id, code).then(() => setText(copied, "Copied"), (error) => setText(copied, `Not copied: ${error.message}`)) }, icon("copy"));
    const cancelButton = new CancelButton({ label: "Cancel", onTask: (task) => this.#mergeTask(task), focusTarget: () => title });
    const retryButton = h("button", { type: "button", hidden: true, onclick: () => this.#retry() }, icon("again"), "Run again");
    const escalateButton = h("button", { type: "button", class: "escalate", hidden: true, onclick: () => this.#escalate() });
    const problem = h("p", { class: "banner", role: "alert", hidden: true });
    const [outcomeText, outcomeDetail, outcomeCode] = [h("b"), h("span"), h("code")];
    const facts = h("dl", { class: "facts" });
    const cancel = h("ol", { class: "steps", "aria-label": "The cancel" });
    const timeline = h("ol", { class: "timeline" });
    const data = h("div", { class: "data" });
    const output = h("section", { class: "card pad output", hidden: true });
    const main = h("div", { hidden: true },
      h("header", { class: "task-head" }, h("div", { class: "line wrap" }, status.element, h("span", { class: "actions" }, retryButton, escalateButton, cancelButton.element)), title,
        h("p", { class: "line small muted" }, code, copyButton, copied)),
      progress.element, h("p", { class: "verdict", role: "status" }, outcomeText, outcomeDetail, outcomeCode), cancel,
      h("div", { class: "columns" }, h("div", null, h("section", { class: "card pad" }, h("h2", null, "What happened"), timeline), output), h("aside", null, h("section", { class: "card pad" }, h("h2", null, "Facts"), facts), data)));
    const note = h("div", { class: "card note" }, h("h1", null, "Loading…"));
    this.ui = { status, progress, title, cancelButton, retryButton, escalateButton, problem, outcomeText, outcomeDetail, outcomeCode, facts, cancel, timeline, data, output, main, note };
    openShadowRoot(this).append(h("section", { class: "task", "aria-label": "Task" }, h("a", { class: "back", href: pageUrl("/") }, icon("back"), "All tasks"), problem, note, main));
  }

  async #load() {
    if (this.#isLoading) return void (this.#mustReload = true);
    this.#isLoading = true;
    try {
      const [task, events] = await Promise.all([api.get(this.#id), api.events(this.#id)]);
      this.#events = events.items;
      this.#showError(null);
      this.#mergeTask(task, true);
    } catch (error) {
      this.#showError(error);
    }
    this.#isLoading = false;
    if (!this.#mustReload || !this.isConnected) return;
    this.#mustReload = false;
    this.#load();
  }

  #showError(error) {
    const { problem, note, main } = this.ui;
    problem.hidden = !error || !this.#task;
    note.hidden = !error || this.#task !== null;
    if (!error) return;
    if (this.#task) return void setChildren(problem, icon("failed"), `Could not read the newest state: ${error.message}`, this.#reloadButton());
    main.hidden = true;
    const missing = error.status === 404 || error.status === 400 || error.status === 422;
    note.replaceChildren(icon("failed"), h("h1", null, missing ? "There is no such task" : "Could not load the task"), h("p", null, missing ? "It may belong to somebody else, or the address is wrong." : error.message), missing ? h("a", { class: "button", href: pageUrl("/") }, "All tasks") : this.#reloadButton());
  }

  #reloadButton() {
    return h("button", { type: "button", onclick: () => this.#load() }, "Try again");
  }

  #handleFrame(frameType, { items }) {
    if (frameType !== "tasks") return void this.#load();
    const task = items.find(({ id }) => id === this.#id);
    if (task) this.#mergeTask(task);
  }

  /** Shows the task if it is newer. A task from a frame (not `isComplete`) has no payload, so a new revision is read from the server. */
  #mergeTask(task, isComplete = false) {
    const hasNewRevision = !this.#task || task.revision > this.#task.revision;
    if (this.#task && !isNewer(task, this.#task)) return;
    this.#task = { ...this.#task, ...task };
    if (hasNewRevision && !isComplete) this.#load();
    this.#draw();
  }

  async #retry() {
    const { problem, retryButton } = this.ui;
    retryButton.disabled = true;
    try {
      this.#mergeTask(await api.retry(this.#id));
    } catch (error) {
      problem.hidden = false;
      setChildren(problem, icon("failed"), `Could not run again: ${error.message}`);
    }
    retryButton.disabled = false;
  }

  /** Moves the cancel to the next rung of its ladder: first interrupt, then revoke. */
  async #escalate() {
    const { problem, escalateButton } = this.ui;
    escalateButton.disabled = true;
    try {
      this.#mergeTask(await api.escalate(this.#id, this.#task.cancel?.rung === "interrupt" ? "revoke" : "interrupt"));
    } catch (error) {
      problem.hidden = false;
      setChildren(problem, icon("failed"), `Could not stop the task: ${error.message}`);
    }
    escalateButton.disabled = false;
  }

  #draw() {
    const task = this.#task;
    const { ui } = this;
    ui.main.hidden = false;
    ui.note.hidden = true;
    ui.status.update(task.status);
    setText(ui.title, task.title);
    ui.progress.update(task);
    ui.cancelButton.update(task);
    ui.retryButton.hidden = !FINAL.has(task.status);
    ui.escalateButton.hidden = task.status !== "cancelling";
    setText(ui.escalateButton, task.cancel?.rung === "interrupt" ? "End by force" : "Interrupt now");
    drawCancel(ui.cancel, task, this.#events);
    drawTimeline(ui.timeline, this.#events);
    this.#drawFacts(task);
    this.#drawData(task);
    this.#tick();
    if (document.title !== `${task.title} – Taskbell`) this.dispatchEvent(new CustomEvent("titled", { bubbles: true, composed: true, detail: task.title }));
  }

  #drawFacts(task) {
    const key = `${task.revision}`;
    if (this.ui.facts.dataset.shown === key) return;
    this.ui.facts.dataset.shown = key;
    this.durationText = h("span");
    const labels = Object.entries(task.labels ?? {}).map(([name, value]) => h("a", { class: "chip", href: `${ROOT}?label=${encodeURIComponent(`${name}:${value}`)}` }, `${name}: ${value}`));
    const rows = [
      ["Kind", h("a", { href: `${ROOT}?kind=${encodeURIComponent(task.kind)}` }, task.kind)], ["Queue", task.queue], ["Owner", task.owner],
      ["Attempt", task.attempt ? `${task.attempt} of ${Math.max(task.attempt, task.max_attempts)}` : `none yet, of ${task.max_attempts}`], ["Worker", task.worker],
      ["Priority", task.priority ? String(task.priority) : null], ["Requested", timeElement(task.created_at)], ["Runs at", timeElement(task.run_at)],
      ["Started", timeElement(task.started_at)], ["Finished", timeElement(task.finished_at)], ["Duration", task.started_at ? this.durationText : null], ["Next attempt", timeElement(task.retry_at)],
      ["Time limit", task.timeout_s ? duration(task.timeout_s * 1000) : null], ["Parent", task.parent ? h("a", { href: taskUrl(task.parent) }, task.parent) : null],
      ["Labels", labels.length ? h("span", { class: "chips" }, ...labels) : null], ["Log position", `${task.position} (revision ${task.revision})`],
    ];
    this.ui.facts.replaceChildren(...rows.filter(([, value]) => value).flatMap(([name, value]) => [h("dt", null, name), h("dd", null, value)]));
  }

  #drawData(task) {
    const key = writeJson([task.input, task.result, task.output]);
    if (this.ui.data.dataset.shown === key || task.input === undefined) return;
    this.ui.data.dataset.shown = key;
    const parts = [jsonElement("Input", task.input, true), task.result === null || task.result === undefined ? null : jsonElement("Result", task.result, true)];
    this.ui.data.replaceChildren(h("section", { class: "card pad" }, h("h2", null, "Data"), ...parts.filter(Boolean)));
    this.ui.output.hidden = !task.output;
    this.ui.output.replaceChildren(h("h2", null, "Output"), ...(task.output ? [outputElement(task.output)] : []));
  }

  #tick() {
    if (!this.#task) return;
    const now = store.serverNow();
    const { text: line, detail, code } = outcome(this.#task, now);
    setText(this.ui.outcomeText, line);
    setText(this.ui.outcomeDetail, detail ?? "");
    setText(this.ui.outcomeCode, code ?? "");
    setAttr(this.ui.outcomeText.parentElement, "data-status", this.#task.status);
    this.ui.outcomeCode.hidden = !code;
    this.ui.outcomeText.parentElement.hidden = !line;
    const elapsedMs = elapsed(this.#task, now);
    if (this.durationText && elapsedMs !== null) setText(this.durationText, this.#task.finished_at ? duration(elapsedMs) : runningDuration(elapsedMs));
  }
}

customElements.define("taskbell-task", TaskbellTask);
