// One row of the list of tasks.
import { setAttr, h, setText } from "./dom.js";
import { duration, elapsed, outcome, runningDuration } from "./format.js";
import { CancelButton, progressPart, statusPart, taskUrl, timePart } from "./parts.js";

export class Row {
  constructor(task, { onTask, kindUrl }) {
    this.status = statusPart();
    this.titleLink = h("a", { class: "title", href: taskUrl(task.id) });
    this.kind = h("a", { class: "kind", href: kindUrl(task.kind), title: "Only this kind" });
    this.progress = progressPart();
    this.started = timePart();
    this.durationText = h("span", { class: "duration" });
    this.outcomeText = h("span", { class: "outcome" });
    this.outcomeDetail = h("span", { class: "detail" });
    this.errorCode = h("code", { hidden: true });
    this.cancelButton = new CancelButton({ onTask, focusTarget: () => this.titleLink });
    const cell = (name, ...children) => h("td", { role: "cell", class: name }, ...children);
    this.element = h("tr", { role: "row", "data-id": task.id },
      cell("cell-status", h("div", { class: "line" }, this.status.element, this.cancelButton.element)),
      cell("cell-task", this.titleLink, this.kind, this.progress.element),
      cell("cell-started", this.started.element, this.durationText),
      cell("cell-outcome", this.outcomeText, this.outcomeDetail, this.errorCode));
  }

  update(task, now, isLeaving) {
    this.task = task;
    this.element.dataset.status = task.status;
    setAttr(this.element, "data-gone", isLeaving ? "" : null);
    this.status.update(task.status);
    setText(this.titleLink, task.title);
    setAttr(this.titleLink, "title", task.title);
    setAttr(this.titleLink, "href", taskUrl(task.id));
    setText(this.kind, task.kind);
    this.progress.update(task);
    this.cancelButton.update(task);
    this.tick(now);
  }

  /** Updates the texts that change with time, even without a new event. */
  tick(now) {
    const { task } = this;
    const elapsedMs = elapsed(task, now);
    this.started.update(task.started_at ?? task.created_at, now);
    const notStartedText = task.started_at ? "" : "requested, not started yet";
    setText(this.durationText, elapsedMs === null ? notStartedText : task.finished_at ? duration(elapsedMs) : runningDuration(elapsedMs));
    const { text: line, detail, code } = outcome(task, now);
    setText(this.outcomeText, line);
    setText(this.outcomeDetail, detail ?? "");
    setAttr(this.outcomeText, "title", line || null);
    setAttr(this.outcomeDetail, "title", detail || null);
    this.errorCode.hidden = !code;
    setText(this.errorCode, code ?? "");
  }
}
