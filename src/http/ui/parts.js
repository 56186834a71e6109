// What the bell, the list and the page of a task have in common: a status, a time, a progress bar, the red cross.
import { api } from "./api.js";
import { attr, h, text } from "./dom.js";
import { absolute, ago, word } from "./format.js";
import { icon } from "./icons.js";
import { FINAL } from "./store.js";

export const taskUrl = (id) => `/tasks/${encodeURIComponent(id)}`;

/** Icon and word: never colour alone. */
export function statusPart() {
  const label = h("span");
  const element = h("span", { class: "status" }, label);
  const update = (status) => {
    if (element.dataset.status === status) return;
    element.dataset.status = status;
    element.replaceChildren(icon(status), label);
    text(label, word(status));
  };
  return { element, update };
}

/** Relative for the glance, absolute on hover and focus. */
export function timePart() {
  const element = h("time");
  const update = (at, now) => {
    element.hidden = !at;
    if (!at) return;
    if (element.dateTime !== at) {
      attr(element, "datetime", at);
      attr(element, "data-tip", absolute(at));
    }
    text(element, ago(at, now));
  };
  return { element, update };
}

export function progressPart() {
  const bar = h("progress", { max: 1 });
  const message = h("span", { class: "message" });
  const percent = h("span", { class: "percent" });
  const element = h("div", { class: "progress", hidden: true }, bar, h("span", { class: "said" }, message, percent));
  const update = (task) => {
    const { progress } = task;
    element.hidden = !progress || FINAL.has(task.status);
    if (element.hidden) return;
    attr(bar, "aria-label", `Progress of ${task.title}`);
    const known = typeof progress.fraction === "number";
    if (known) bar.value = progress.fraction;
    else bar.removeAttribute("value");
    text(message, progress.message ?? "");
    text(percent, known ? `${Math.floor(progress.fraction * 100)} %` : "");
  };
  return { element, update };
}

let opened = null;

/** The red cross and the question behind it, in place: no dialog, nothing else moves. */
export class Cross {
  #task = null;
  #confirm = null;

  /** `onTask(task)`: the server's answer; `home()`: where focus goes when the cross is gone. */
  constructor({ onTask, home, label = null }) {
    this.onTask = onTask;
    this.home = home;
    const click = () => this.#ask();
    this.button = h("button", { type: "button", class: label ? "danger" : "cross", onclick: click }, icon("cross"), label);
    this.element = h("span", { class: "cancel" }, this.button);
  }

  get open() {
    return this.#confirm !== null;
  }

  update(task) {
    this.#task = task;
    const gone = FINAL.has(task.status) || task.status === "cancelling";
    if (gone && this.open) this.#close();
    if (gone && !this.button.hidden && this.button.matches(":focus")) this.home()?.focus();
    this.button.hidden = gone;
    attr(this.button, "aria-label", `Cancel task: ${task.title}`);
  }

  #ask() {
    if (this.open) return;
    opened?.#close();
    opened = this;
    const yes = h("button", { type: "button", class: "danger solid", onclick: () => this.#cancel() }, "Cancel task");
    const no = h("button", { type: "button", onclick: () => this.#close() }, "Keep");
    const question = h("span", { class: "question" }, "Cancel this task?");
    const keydown = (event) => {
      if (event.key !== "Escape") return;
      event.preventDefault();
      event.stopPropagation();
      this.#close();
    };
    this.#confirm = h("span", { class: "confirm", role: "group", "aria-label": `Cancel task: ${this.#task.title}`, onkeydown: keydown }, question, yes, no);
    this.element.append(this.#confirm);
    attr(this.button, "aria-expanded", "true");
    yes.focus();
  }

  #close() {
    const focused = this.#confirm?.contains(this.element.getRootNode().activeElement);
    this.#confirm?.remove();
    this.#confirm = null;
    if (opened === this) opened = null;
    attr(this.button, "aria-expanded", null);
    if (!focused) return;
    const gone = FINAL.has(this.#task.status) || this.#task.status === "cancelling";
    (gone ? this.home() : this.button)?.focus();
    this.element.dispatchEvent(new Event("settled", { bubbles: true }));
  }

  async #cancel() {
    const [question, yes, no] = this.#confirm.children;
    if (yes.ariaDisabled === "true") return;
    yes.ariaDisabled = "true";
    text(question, "Asking…");
    try {
      const task = await api.cancel(this.#task.id);
      this.onTask(task);
      this.#close();
    } catch (error) {
      yes.ariaDisabled = null;
      attr(question, "role", "alert");
      text(question, `Not cancelled: ${error.message}`);
      text(yes, "Try again");
      text(no, "Close");
    }
  }
}
