// One row of the tasks view.
import { attr, h, text } from "./dom.js";
import { duration, elapsed, outcome, ticking } from "./format.js";
import { Cross, progressPart, statusPart, taskUrl, timePart } from "./parts.js";

export class Row {
  constructor(task, { onTask, kindUrl }) {
    this.status = statusPart();
    this.link = h("a", { class: "title", href: taskUrl(task.id) });
    this.kind = h("a", { class: "kind", href: kindUrl(task.kind), title: "Only this kind" });
    this.progress = progressPart();
    this.started = timePart();
    this.took = h("span", { class: "took" });
    this.said = h("span", { class: "said" });
    this.more = h("span", { class: "more" });
    this.code = h("code", { hidden: true });
    this.cross = new Cross({ onTask, home: () => this.link });
    const cell = (name, ...children) => h("td", { role: "cell", class: name }, ...children);
    this.element = h("tr", { role: "row", "data-id": task.id },
      cell("c-status", h("div", { class: "line" }, this.status.element, this.cross.element)),
      cell("c-task", this.link, this.kind, this.progress.element),
      cell("c-started", this.started.element, this.took),
      cell("c-outcome", this.said, this.more, this.code));
  }

  update(task, now, gone) {
    this.task = task;
    this.element.dataset.status = task.status;
    attr(this.element, "data-gone", gone ? "" : null);
    this.status.update(task.status);
    text(this.link, task.title);
    attr(this.link, "title", task.title);
    text(this.kind, task.kind);
    this.progress.update(task);
    this.cross.update(task);
    this.tick(now);
  }

  /** Only what time alone changes. */
  tick(now) {
    const { task } = this;
    const ran = elapsed(task, now);
    this.started.update(task.started_at ?? task.created_at, now);
    const none = task.started_at ? "" : "asked for, not started";
    text(this.took, ran === null ? none : task.finished_at ? duration(ran) : ticking(ran));
    const { text: line, more, code } = outcome(task, now);
    text(this.said, line);
    text(this.more, more ?? "");
    attr(this.said, "title", line || null);
    attr(this.more, "title", more || null);
    this.code.hidden = !code;
    text(this.code, code ?? "");
  }
}
