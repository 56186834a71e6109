// <taskbell-bell>: the bell button with its counts, and the panel that the button opens.
import { api, store } from "./api.js";
import { setAttr, h, updateChildren, openShadowRoot, setText } from "./dom.js";
import { localAndUtc, bellName, count, duration, elapsed, connectionText, number, outcome, runningDuration, statusLabel, whoseTasks } from "./format.js";
import { icon } from "./icons.js";
import { CancelButton, pageUrl, progressPart, statusPart, taskUrl, timePart } from "./parts.js";
import { STATUSES, isNewer } from "./store.js";
import { choiceOf, who } from "./who.js";

const LATEST_COUNT = 6;
const ANNOUNCE_INTERVAL_MS = 5000;
const sum = (counts) => Object.values(counts).reduce((a, b) => a + b, 0);

/** One row of the latest tasks in the panel. */
class LatestTask {
  constructor(task, onTask) {
    this.status = statusPart();
    this.titleLink = h("a", { class: "title", href: taskUrl(task.id) });
    this.progress = progressPart();
    this.timeText = timePart();
    this.outcome = h("span", { class: "outcome" });
    this.cancelButton = new CancelButton({ onTask, focusTarget: () => this.titleLink });
    this.element = h("li", null, this.status.element, h("div", { class: "row-main" }, this.titleLink, this.progress.element, h("span", { class: "line small" }, this.timeText.element, this.outcome)), this.cancelButton.element);
  }

  update(task, now) {
    this.status.update(task.status);
    setText(this.titleLink, task.title);
    setAttr(this.titleLink, "title", task.title);
    setAttr(this.titleLink, "href", taskUrl(task.id));
    this.progress.update(task);
    this.cancelButton.update(task);
    const at = task.finished_at ?? task.started_at ?? task.created_at;
    this.timeText.update(at, now);
    const elapsedMs = elapsed(task, now);
    const line = outcome(task, now).text || (elapsedMs === null ? "" : task.finished_at ? duration(elapsedMs) : runningDuration(elapsedMs));
    setText(this.outcome, line);
    setAttr(this.outcome, "title", line);
  }
}

class TaskbellBell extends HTMLElement {
  #tasks = [];
  #rows = new Map();
  /** Null until the server has said who the caller is. */
  #caller = null;
  #unsubscribers = [];
  /** The state of the request for the latest tasks. Null: idle. 1: reading. More than 1: reading, and afterwards the tasks must be read again from this log position. */
  #pendingRead = null;
  #announced = { at: 0, unseen: null, timer: null };

  connectedCallback() {
    if (!this.button) this.#build();
    const ticker = setInterval(() => this.panel.matches(":popover-open") && this.#drawLatest(), 1000);
    this.#unsubscribers = [store.listen((change) => this.#handleStoreEvent(change)), () => clearInterval(ticker)];
    store.start();
    this.#readCaller();
    this.#drawCounters();
  }

  disconnectedCallback() {
    for (const unsubscribe of [...this.#unsubscribers, this.unsubscribe]) unsubscribe?.();
  }

  async #readCaller() {
    this.#caller = await who().catch(() => null);
    this.#drawCounters();
  }

  #build() {
    this.badge = h("span", { class: "badge", hidden: true });
    this.chips = { running: h("span"), waiting: h("span") };
    const chip = (name, glyph) => h("span", { class: `chip-count ${name}`, hidden: true }, icon(glyph), this.chips[name]);
    this.accessibleName = h("span", { class: "sr" });
    this.button = h("button", { type: "button", class: "bell", id: "bell", "aria-expanded": "false", "aria-controls": "panel", popovertarget: "panel" }, this.accessibleName,
      h("span", { class: "counts", "aria-hidden": "true" }, chip("running", "running"), chip("waiting", "queued")),
      h("span", { class: "ring", "aria-hidden": "true" }, icon("bell"), this.badge, h("i", { class: "dot" })));
    this.counters = new Map(STATUSES.map((status) => [status, h("b", null, "–")]));
    const links = STATUSES.map((status) => h("a", { "data-status": status }, icon(status), h("span", null, statusLabel(status)), this.counters.get(status)));
    this.heading = h("h2");
    this.allLink = h("a", null, "Show all");
    this.unseenText = h("span");
    this.markButton = h("button", { type: "button", class: "quiet", onclick: () => this.#markSeen() }, "Mark as seen");
    this.unseenLine = h("div", { class: "unseen" }, this.unseenText, this.markButton);
    this.latestList = h("ul", { class: "latest" });
    this.emptyNote = h("p", { class: "small muted" });
    this.connectionStatus = h("p", { class: "connection", role: "status" });
    this.panel = h("div", { id: "panel", class: "panel", popover: "auto", role: "region", "aria-label": "Counters and latest tasks" },
      h("div", { class: "line head" }, this.heading, this.allLink),
      h("ul", { class: "counters" }, ...links.map((link) => h("li", null, link))), this.unseenLine, h("h3", null, "Latest"), this.emptyNote, this.latestList, this.connectionStatus);
    this.panel.addEventListener("beforetoggle", (event) => event.newState === "open" && this.#positionPanel());
    this.panel.addEventListener("toggle", (event) => this.#handleToggle(event.newState === "open"));
    this.panel.addEventListener("click", (event) => event.target.closest("a") && this.panel.hidePopover());
    this.panel.addEventListener("focusout", ({ relatedTarget }) => relatedTarget && !this.shadowRoot.contains(relatedTarget) && this.panel.hidePopover());
    this.announcement = h("p", { class: "sr", role: "status" });
    openShadowRoot(this).append(this.button, this.panel, this.announcement);
  }

  #positionPanel() {
    const { bottom, right } = this.button.getBoundingClientRect();
    this.panel.style.setProperty("--top", `${bottom + 8}px`);
    this.panel.style.setProperty("--right", `${Math.max(8, document.documentElement.clientWidth - right)}px`);
  }

  #handleToggle(open) {
    setAttr(this.button, "aria-expanded", String(open));
    if (open) {
      this.#showLatest();
    } else {
      this.unsubscribe?.();
      this.unsubscribe = null;
      this.#markSeen();
    }
  }

  /** Subscribes to the tasks of the owner that is shown, and reads the latest of them. */
  #showLatest() {
    this.unsubscribe?.();
    const filter = store.owner === null ? {} : { owner: store.owner };
    this.unsubscribe = store.subscribe(filter, (frameType, frame) => this.#handleFrame(frameType, frame));
    this.#loadLatest();
  }

  get #choice() {
    return choiceOf(store.owner, this.#caller);
  }

  /** Whether "seen" counts from what the caller has seen, and not from what another owner has. */
  get #isOwnBell() {
    return store.owner === null || this.#choice !== null;
  }

  /** Tells the server that the user has seen all tasks up to the position of the counters. */
  async #markSeen() {
    const { connection, position, unseen } = store.state;
    if (connection !== "live" || !this.#isOwnBell || !sum(unseen)) return;
    await api.seen(position).catch((error) => setText(this.unseenText, `Could not mark as seen: ${error.message}`));
  }

  #handleStoreEvent(change) {
    this.#drawCounters();
    if (change === "owner") this.#tasks = [];
    if (change === "reset" && !this.#caller) this.#readCaller();
    if (!this.panel.matches(":popover-open")) return;
    if (change === "owner") this.#drawLatest();
    if (change === "owner") this.#showLatest();
    if (change === "reset") this.#loadLatest();
  }

  #handleFrame(frameType, { items, position }) {
    if (frameType !== "tasks") return this.#loadLatest(position);
    const known = new Set(this.#tasks.map(({ id }) => id));
    const oldest = this.#tasks.at(-1)?.created_at ?? "";
    const hasNewTask = items.some(({ id, created_at }) => !known.has(id) && (created_at > oldest || known.size < LATEST_COUNT));
    for (const task of items) this.#mergeTask(task);
    if (hasNewTask) this.#loadLatest(position);
    this.#drawLatest();
  }

  #mergeTask(task) {
    const index = this.#tasks.findIndex(({ id }) => id === task.id);
    if (index >= 0 && isNewer(task, this.#tasks[index])) this.#tasks[index] = task;
  }

  async #loadLatest(position = 0) {
    if (this.#pendingRead) return void (this.#pendingRead = Math.max(this.#pendingRead, position, 1));
    this.#pendingRead = 1;
    const { owner } = store;
    try {
      const page = await api.list({ limit: LATEST_COUNT, ...(owner === null ? {} : { owner }), ...(position ? { min_position: position } : {}) });
      if (owner !== store.owner) return this.#readAgain();
      const known = new Map(this.#tasks.map((task) => [task.id, task]));
      this.#tasks = page.items.map((task) => (isNewer(task, known.get(task.id)) ? task : known.get(task.id)));
      setText(this.emptyNote, page.items.length ? "" : this.#choice === "mine" ? "You have no tasks yet." : "There are no tasks yet.");
    } catch (error) {
      setText(this.emptyNote, `Could not load the latest tasks: ${error.message}`);
    }
    this.#drawLatest();
    const pendingBefore = this.#pendingRead;
    setTimeout(() => {
      const next = this.#pendingRead;
      this.#pendingRead = null;
      if (next !== pendingBefore || next > 1) this.#loadLatest(next > 1 ? next : 0);
    }, 500);
  }

  /** The tasks that were read are those of a former owner. */
  #readAgain() {
    this.#pendingRead = null;
    if (this.panel.matches(":popover-open")) this.#loadLatest();
  }

  #drawLatest() {
    const now = store.serverNow();
    const onTask = (task) => {
      this.#mergeTask(task);
      this.#drawLatest();
    };
    const create = (task) => {
      const row = new LatestTask(task, onTask);
      this.#rows.set(task.id, row);
      return row.element;
    };
    updateChildren(this.latestList, this.#tasks, ({ id }) => id, create, (_, task) => this.#rows.get(task.id).update(task, now));
    this.emptyNote.hidden = this.emptyNote.textContent === "";
    if (this.#rows.size > 200) this.#rows = new Map(this.#tasks.map(({ id }) => [id, this.#rows.get(id)]));
  }

  #drawCounters() {
    const { state } = store;
    const { counts, unseen, connection } = state;
    for (const part of [this.button, this.panel]) setAttr(part, "data-connection", connection);
    setText(this.accessibleName, bellName(state));
    setText(this.heading, whoseTasks(this.#choice, store.owner));
    setAttr(this.allLink, "href", pageUrl("/"));
    for (const [status, counter] of this.counters) setAttr(counter.parentElement, "href", pageUrl(`/?status=${status}`));
    this.markButton.hidden = !this.#isOwnBell;
    setText(this.connectionStatus, connectionText(state));
    setAttr(this.connectionStatus, "title", state.since ? localAndUtc(state.since) : null);
    if (!counts) {
      for (const counter of this.counters.values()) setText(counter, "–");
      this.unseenLine.hidden = this.badge.hidden = true;
      for (const chip of Object.values(this.chips)) chip.parentElement.hidden = true;
      this.#forgetAnnounced();
      return;
    }
    for (const [status, counter] of this.counters) {
      setText(counter, number(counts[status]));
      setAttr(counter.parentElement, "data-zero", counts[status] === 0);
    }
    const waiting = counts.queued + counts.scheduled + counts.retrying;
    this.#updateChip("running", counts.running + counts.cancelling);
    this.#updateChip("waiting", waiting);
    const unseenCount = sum(unseen);
    this.badge.hidden = unseenCount === 0;
    setText(this.badge, unseenCount > 99 ? "99+" : String(unseenCount));
    setAttr(this.badge, "data-failed", unseen.failed > 0);
    this.unseenLine.hidden = unseenCount === 0;
    setText(this.unseenText, `New: ${["succeeded", "failed", "cancelled"].filter((name) => unseen[name]).map((name) => `${number(unseen[name])} ${name}`).join(", ")}`);
    this.#announceEnded();
  }

  #updateChip(name, n) {
    this.chips[name].parentElement.hidden = n === 0;
    setText(this.chips[name], number(n));
  }

  /** Other tasks are shown from now on, so those that had ended before are no news. */
  #forgetAnnounced() {
    clearTimeout(this.#announced.timer);
    this.#announced = { ...this.#announced, unseen: null, timer: null };
  }

  /** Announces the tasks that have ended to screen readers, at most once in five seconds. */
  #announceEnded() {
    const { unseen, counts } = store.state;
    const announced = this.#announced;
    announced.unseen ??= { ...unseen };
    if (announced.timer || !["succeeded", "failed", "cancelled"].some((name) => unseen[name] > announced.unseen[name])) {
      if (!announced.timer) announced.unseen = { ...unseen };
      return;
    }
    announced.timer = setTimeout(() => {
      announced.timer = null;
      announced.at = Date.now();
      const current = store.state.unseen ?? announced.unseen;
      const ended = Object.keys(current).filter((name) => current[name] > announced.unseen[name]).map((name) => `${count(current[name] - announced.unseen[name], "task", "tasks")} ${name}`);
      announced.unseen = { ...current };
      if (ended.length) setText(this.announcement, `${ended.join(", ")}. ${number(store.state.counts?.running ?? counts.running)} running.`);
    }, Math.max(300, announced.at + ANNOUNCE_INTERVAL_MS - Date.now()));
  }
}

customElements.define("taskbell-bell", TaskbellBell);
