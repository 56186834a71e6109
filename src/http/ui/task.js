// <taskbell-task task-id="…">: one task and its history, live.
import { api, store } from "./api.js";
import { attr, h, root, text } from "./dom.js";
import { absolute, moment, duration, elapsed, outcome, ticking } from "./format.js";
import { icon } from "./icons.js";
import { Cross, progressPart, statusPart } from "./parts.js";
import { FINAL, isNewer } from "./store.js";
import { drawCancel, drawTimeline, json, written } from "./timeline.js";

const at = (time) => (time ? h("time", { datetime: time, "data-tip": absolute(time), tabindex: "0" }, moment(time)) : null);

/** Works on plain http too, where there is no clipboard API. */
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
  #reading = false;
  #again = false;
  #off = [];

  connectedCallback() {
    this.#id = this.getAttribute("task-id");
    if (!this.ui) this.#build();
    const ticker = setInterval(() => this.#tick(), 1000);
    this.#off = [
      store.listen((kind) => kind === "reset" && this.#read()),
      store.subscribe({ ids: [this.#id] }, (kind, frame) => this.#frame(kind, frame)),
      () => clearInterval(ticker),
    ];
    store.start();
    this.#read();
  }

  disconnectedCallback() {
    for (const off of this.#off) off();
  }

  #build() {
    const status = statusPart();
    const progress = progressPart();
    const title = h("h1", { tabindex: "-1" });
    const code = h("code", null, this.#id);
    const copied = h("span", { role: "status", class: "small muted" });
    const copyButton = h("button", { type: "button", class: "quiet icon-only", "aria-label": "Copy the id", onclick: () => copy(this.#id, code).then(() => text(copied, "Copied"), (error) => text(copied, `Not copied: ${error.message}`)) }, icon("copy"));
    const cross = new Cross({ label: "Cancel", onTask: (task) => this.#learn(task), home: () => title });
    const again = h("button", { type: "button", hidden: true, onclick: () => this.#retry() }, icon("again"), "Run again");
    const insist = h("button", { type: "button", class: "insist", hidden: true, onclick: () => this.#insist() });
    const problem = h("p", { class: "banner", role: "alert", hidden: true });
    const [said, more, outcomeCode] = [h("b"), h("span"), h("code")];
    const facts = h("dl", { class: "facts" });
    const cancel = h("ol", { class: "steps", "aria-label": "The cancel" });
    const timeline = h("ol", { class: "timeline" });
    const data = h("div", { class: "data" });
    const output = h("section", { class: "card pad output", hidden: true });
    const main = h("div", { hidden: true },
      h("header", { class: "task-head" }, h("div", { class: "line wrap" }, status.element, h("span", { class: "actions" }, again, insist, cross.element)), title,
        h("p", { class: "line small muted" }, code, copyButton, copied)),
      progress.element, h("p", { class: "verdict", role: "status" }, said, more, outcomeCode), cancel,
      h("div", { class: "columns" }, h("div", null, h("section", { class: "card pad" }, h("h2", null, "What happened"), timeline), output), h("aside", null, h("section", { class: "card pad" }, h("h2", null, "Facts"), facts), data)));
    const note = h("div", { class: "card note" }, h("h1", null, "Loading…"));
    this.ui = { status, progress, title, cross, again, insist, problem, said, more, outcomeCode, facts, cancel, timeline, data, output, main, note };
    root(this).append(h("section", { class: "task", "aria-label": "Task" }, h("a", { class: "back", href: "/" }, icon("back"), "All tasks"), problem, note, main));
  }

  async #read() {
    if (this.#reading) return void (this.#again = true);
    this.#reading = true;
    try {
      const [task, events] = await Promise.all([api.get(this.#id), api.events(this.#id)]);
      this.#events = events.items;
      this.#failed(null);
      this.#learn(task, true);
    } catch (error) {
      this.#failed(error);
    }
    this.#reading = false;
    if (!this.#again || !this.isConnected) return;
    this.#again = false;
    this.#read();
  }

  #failed(error) {
    const { problem, note, main } = this.ui;
    problem.hidden = !error || !this.#task;
    note.hidden = !error || this.#task !== null;
    if (!error) return;
    if (this.#task) return void problem.replaceChildren(icon("failed"), `Could not read the newest state: ${error.message}`, this.#retryButton());
    main.hidden = true;
    const missing = error.status === 404 || error.status === 400 || error.status === 422;
    note.replaceChildren(icon("failed"), h("h1", null, missing ? "There is no such task" : "Could not load the task"), h("p", null, missing ? "It may belong to somebody else, or the address is wrong." : error.message), missing ? h("a", { class: "button", href: "/" }, "All tasks") : this.#retryButton());
  }

  #retryButton() {
    return h("button", { type: "button", onclick: () => this.#read() }, "Try again");
  }

  #frame(kind, { items }) {
    if (kind !== "tasks") return void this.#read();
    const task = items.find(({ id }) => id === this.#id);
    if (task) this.#learn(task);
  }

  #learn(task, whole = false) {
    const grown = !this.#task || task.revision > this.#task.revision;
    if (this.#task && !isNewer(task, this.#task)) return;
    this.#task = { ...this.#task, ...task };
    if (grown && !whole) this.#read();
    this.#draw();
  }

  async #retry() {
    const { problem, again } = this.ui;
    again.disabled = true;
    try {
      this.#learn(await api.retry(this.#id));
    } catch (error) {
      problem.hidden = false;
      problem.replaceChildren(icon("failed"), `Not run again: ${error.message}`);
    }
    again.disabled = false;
  }

  /** The next rung of the ladder, by hand: told to stop now, then left without its lease. */
  async #insist() {
    const { problem, insist } = this.ui;
    insist.disabled = true;
    try {
      this.#learn(await api.escalate(this.#id, this.#task.cancel?.rung === "interrupt" ? "revoke" : "interrupt"));
    } catch (error) {
      problem.hidden = false;
      problem.replaceChildren(icon("failed"), `Not stopped: ${error.message}`);
    }
    insist.disabled = false;
  }

  #draw() {
    const task = this.#task;
    const { ui } = this;
    ui.main.hidden = false;
    ui.note.hidden = true;
    ui.status.update(task.status);
    text(ui.title, task.title);
    ui.progress.update(task);
    ui.cross.update(task);
    ui.again.hidden = !FINAL.has(task.status);
    ui.insist.hidden = task.status !== "cancelling";
    text(ui.insist, task.cancel?.rung === "interrupt" ? "End it by force" : "Stop it now");
    drawCancel(ui.cancel, task, this.#events);
    drawTimeline(ui.timeline, this.#events);
    this.#facts(task);
    this.#data(task);
    this.#tick();
    if (document.title !== `${task.title} – Taskbell`) this.dispatchEvent(new CustomEvent("titled", { bubbles: true, composed: true, detail: task.title }));
  }

  #facts(task) {
    const key = `${task.revision}`;
    if (this.ui.facts.dataset.shown === key) return;
    this.ui.facts.dataset.shown = key;
    this.took = h("span");
    const labels = Object.entries(task.labels ?? {}).map(([name, value]) => h("a", { class: "chip", href: `/?label=${encodeURIComponent(`${name}:${value}`)}` }, `${name}: ${value}`));
    const rows = [
      ["Kind", h("a", { href: `/?kind=${encodeURIComponent(task.kind)}` }, task.kind)], ["Queue", task.queue], ["Owner", task.owner],
      ["Attempt", task.attempt ? `${task.attempt} of ${Math.max(task.attempt, task.max_attempts)}` : `none yet, of ${task.max_attempts}`], ["Worker", task.worker],
      ["Priority", task.priority ? String(task.priority) : null], ["Asked for", at(task.created_at)], ["Runs at", at(task.run_at)],
      ["Started", at(task.started_at)], ["Finished", at(task.finished_at)], ["Duration", task.started_at ? this.took : null], ["Next attempt", at(task.retry_at)],
      ["Time limit", task.timeout_s ? duration(task.timeout_s * 1000) : null], ["Part of", task.parent ? h("a", { href: `/tasks/${task.parent}` }, task.parent) : null],
      ["Labels", labels.length ? h("span", { class: "chips" }, ...labels) : null], ["Log position", `${task.position} (revision ${task.revision})`],
    ];
    this.ui.facts.replaceChildren(...rows.filter(([, value]) => value).flatMap(([name, value]) => [h("dt", null, name), h("dd", null, value)]));
  }

  #data(task) {
    const key = JSON.stringify([task.input, task.result, task.output]);
    if (this.ui.data.dataset.shown === key || task.input === undefined) return;
    this.ui.data.dataset.shown = key;
    const parts = [json("Input", task.input, true), task.result === null || task.result === undefined ? null : json("Result", task.result, true)];
    this.ui.data.replaceChildren(h("section", { class: "card pad" }, h("h2", null, "Data"), ...parts.filter(Boolean)));
    this.ui.output.hidden = !task.output;
    this.ui.output.replaceChildren(h("h2", null, "Output"), ...(task.output ? [written(task.output)] : []));
  }

  #tick() {
    if (!this.#task) return;
    const now = store.serverNow();
    const { text: line, more, code } = outcome(this.#task, now);
    text(this.ui.said, line);
    text(this.ui.more, more ?? "");
    text(this.ui.outcomeCode, code ?? "");
    attr(this.ui.said.parentElement, "data-status", this.#task.status);
    this.ui.outcomeCode.hidden = !code;
    this.ui.said.parentElement.hidden = !line;
    const ran = elapsed(this.#task, now);
    if (this.took && ran !== null) text(this.took, this.#task.finished_at ? duration(ran) : ticking(ran));
  }
}

customElements.define("taskbell-task", TaskbellTask);
