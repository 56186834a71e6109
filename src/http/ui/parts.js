// The parts that the bell, the list and the page of a task share: a status, a time, a progress bar and the cancel button.
import { api, store } from "./api.js";
import { ROOT } from "./base.js";
import { setAttr, h, setText } from "./dom.js";
import { localAndUtc, relativeTime, statusLabel } from "./format.js";
import { icon } from "./icons.js";
import * as query from "./query.js";
import { FINAL } from "./store.js";

/** An address of this page that shows the tasks of the same owner. `path` begins with a slash, which is the root of the server. */
export const pageUrl = (path) => query.withOwner(ROOT + path.slice(1), store.owner);
export const taskUrl = (id) => pageUrl(`/tasks/${encodeURIComponent(id)}`);

/** A status as icon and word. The colour is not the only sign. */
export function statusPart() {
  const label = h("span");
  const element = h("span", { class: "status" }, label);
  const update = (status) => {
    if (element.dataset.status === status) return;
    element.dataset.status = status;
    element.replaceChildren(icon(status), label);
    setText(label, statusLabel(status));
  };
  return { element, update };
}

/** A relative time. On hover and focus it shows the absolute time. */
export function timePart() {
  const element = h("time");
  const update = (at, now) => {
    element.hidden = !at;
    if (!at) return;
    if (element.dateTime !== at) {
      setAttr(element, "datetime", at);
      setAttr(element, "data-tip", localAndUtc(at));
    }
    setText(element, relativeTime(at, now));
  };
  return { element, update };
}

/** The progress bar of a task that is not final. */
export function progressPart() {
  const bar = h("progress", { max: 1 });
  const message = h("span", { class: "message" });
  const percent = h("span", { class: "percent" });
  const element = h("div", { class: "progress", hidden: true }, bar, h("span", { class: "progress-line" }, message, percent));
  const update = (task) => {
    const { progress } = task;
    element.hidden = !progress || FINAL.has(task.status);
    if (element.hidden) return;
    setAttr(bar, "aria-label", `Progress of ${task.title}`);
    const hasFraction = typeof progress.fraction === "number";
    if (hasFraction) bar.value = progress.fraction;
    else bar.removeAttribute("value");
    setText(message, progress.message ?? "");
    setText(percent, hasFraction ? `${Math.floor(progress.fraction * 100)} %` : "");
  };
  return { element, update };
}

/** The button whose confirmation is open; at most one is. */
let openButton = null;

/** The button with the red cross. A click opens the question "Cancel this task?" over the row, without a dialog. */
export class CancelButton {
  #task = null;
  #confirmation = null;

  /** `onTask(task)` gets the task in the server's response. `focusTarget()` returns the element that gets the focus when the button is hidden. */
  constructor({ onTask, focusTarget, label = null }) {
    this.onTask = onTask;
    this.focusTarget = focusTarget;
    const openConfirmation = () => this.#openConfirmation();
    this.button = h("button", { type: "button", class: label ? "danger" : "cross", onclick: openConfirmation }, icon("cross"), label);
    this.element = h("span", { class: "cancel" }, this.button);
  }

  get isOpen() {
    return this.#confirmation !== null;
  }

  update(task) {
    this.#task = task;
    const isHidden = FINAL.has(task.status) || task.status === "cancelling";
    if (isHidden && this.isOpen) this.#close();
    if (isHidden && !this.button.hidden && this.button.matches(":focus")) this.focusTarget()?.focus();
    this.button.hidden = isHidden;
    setAttr(this.button, "aria-label", `Cancel task: ${task.title}`);
  }

  #openConfirmation() {
    if (this.isOpen) return;
    openButton?.#close();
    openButton = this;
    const confirmButton = h("button", { type: "button", class: "danger solid", onclick: () => this.#cancel() }, "Cancel task");
    const keepButton = h("button", { type: "button", onclick: () => this.#close() }, "Keep");
    const question = h("span", { class: "question" }, "Cancel this task?");
    const keydown = (event) => {
      if (event.key !== "Escape") return;
      event.preventDefault();
      event.stopPropagation();
      this.#close();
    };
    this.#confirmation = h("span", { class: "confirm", role: "group", "aria-label": `Cancel task: ${this.#task.title}`, onkeydown: keydown }, question, confirmButton, keepButton);
    this.element.append(this.#confirmation);
    setAttr(this.button, "aria-expanded", "true");
    confirmButton.focus();
  }

  #close() {
    const hadFocus = this.#confirmation?.contains(this.element.getRootNode().activeElement);
    this.#confirmation?.remove();
    this.#confirmation = null;
    if (openButton === this) openButton = null;
    setAttr(this.button, "aria-expanded", null);
    if (!hadFocus) return;
    const isHidden = FINAL.has(this.#task.status) || this.#task.status === "cancelling";
    (isHidden ? this.focusTarget() : this.button)?.focus();
    this.element.dispatchEvent(new Event("confirmationclosed", { bubbles: true }));
  }

  async #cancel() {
    const [question, confirmButton, keepButton] = this.#confirmation.children;
    if (confirmButton.ariaDisabled === "true") return;
    confirmButton.ariaDisabled = "true";
    setText(question, "Requesting…");
    try {
      const task = await api.cancel(this.#task.id);
      this.onTask(task);
      this.#close();
    } catch (error) {
      confirmButton.ariaDisabled = null;
      setAttr(question, "role", "alert");
      setText(question, `Not cancelled: ${error.message}`);
      setText(confirmButton, "Try again");
      setText(keepButton, "Close");
    }
  }
}
