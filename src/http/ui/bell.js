// <taskbell-bell>: the counters, and the panel behind them.
import { api, store } from "./api.js";
import { attr, h, keyed, root, text } from "./dom.js";
import { absolute, bellName, count, duration, elapsed, linkText, number, outcome, ticking, word } from "./format.js";
import { icon } from "./icons.js";
import { Cross, progressPart, statusPart, taskUrl, timePart } from "./parts.js";
import { STATUSES, isNewer } from "./store.js";

const LATEST = 6;
const SAY_MS = 5000;
const sum = (counts) => Object.values(counts).reduce((a, b) => a + b, 0);

class Latest {
  constructor(task, onTask) {
    this.status = statusPart();
    this.link = h("a", { class: "title", href: taskUrl(task.id) });
    this.progress = progressPart();
    this.time = timePart();
    this.said = h("span", { class: "said" });
    this.cross = new Cross({ onTask, home: () => this.link });
    this.element = h("li", null, this.status.element, h("div", { class: "what" }, this.link, this.progress.element, h("span", { class: "line small" }, this.time.element, this.said)), this.cross.element);
  }

  update(task, now) {
    this.status.update(task.status);
    text(this.link, task.title);
    attr(this.link, "title", task.title);
    this.progress.update(task);
    this.cross.update(task);
    const at = task.finished_at ?? task.started_at ?? task.created_at;
    this.time.update(at, now);
    const ran = elapsed(task, now);
    const line = outcome(task, now).text || (ran === null ? "" : task.finished_at ? duration(ran) : ticking(ran));
    text(this.said, line);
    attr(this.said, "title", line);
  }
}

class TaskbellBell extends HTMLElement {
  #tasks = [];
  #rows = new Map();
  #off = [];
  #reading = null;
  #spoken = { at: 0, unseen: null, timer: null };

  connectedCallback() {
    if (!this.button) this.#build();
    const ticker = setInterval(() => this.panel.matches(":popover-open") && this.#draw(), 1000);
    this.#off = [store.listen((kind) => this.#heard(kind)), () => clearInterval(ticker)];
    store.start();
    this.#state();
  }

  disconnectedCallback() {
    for (const off of [...this.#off, this.unsubscribe]) off?.();
  }

  #build() {
    this.badge = h("span", { class: "badge", hidden: true });
    this.chips = { running: h("span"), waiting: h("span") };
    const chip = (name, glyph) => h("span", { class: `chip-count ${name}`, hidden: true }, icon(glyph), this.chips[name]);
    this.name = h("span", { class: "sr" });
    this.button = h("button", { type: "button", class: "bell", id: "bell", "aria-expanded": "false", "aria-controls": "panel", popovertarget: "panel" }, this.name,
      h("span", { class: "counts", "aria-hidden": "true" }, chip("running", "running"), chip("waiting", "queued")),
      h("span", { class: "ring", "aria-hidden": "true" }, icon("bell"), this.badge, h("i", { class: "dot" })));
    this.counters = new Map(STATUSES.map((status) => [status, h("b", null, "–")]));
    const links = STATUSES.map((status) => h("li", null, h("a", { href: `/?status=${status}`, "data-status": status }, icon(status), h("span", null, word(status)), this.counters.get(status))));
    this.unseen = h("span");
    this.mark = h("button", { type: "button", class: "quiet", onclick: () => this.#see() }, "Mark as seen");
    this.news = h("div", { class: "news" }, this.unseen, this.mark);
    this.list = h("ul", { class: "latest" });
    this.none = h("p", { class: "small muted" });
    this.link = h("p", { class: "link", role: "status" });
    this.panel = h("div", { id: "panel", class: "panel", popover: "auto", role: "region", "aria-label": "Counters and latest tasks" },
      h("div", { class: "line head" }, h("h2", null, "Tasks"), h("a", { href: "/" }, "Show all")),
      h("ul", { class: "counters" }, ...links), this.news, h("h3", null, "Latest"), this.none, this.list, this.link);
    this.panel.addEventListener("beforetoggle", (event) => event.newState === "open" && this.#place());
    this.panel.addEventListener("toggle", (event) => this.#toggled(event.newState === "open"));
    this.panel.addEventListener("click", (event) => event.target.closest("a") && this.panel.hidePopover());
    this.panel.addEventListener("focusout", ({ relatedTarget }) => relatedTarget && !this.shadowRoot.contains(relatedTarget) && this.panel.hidePopover());
    this.status = h("p", { class: "sr", role: "status" });
    root(this).append(this.button, this.panel, this.status);
  }

  #place() {
    const { bottom, right } = this.button.getBoundingClientRect();
    this.panel.style.setProperty("--top", `${bottom + 8}px`);
    this.panel.style.setProperty("--right", `${Math.max(8, document.documentElement.clientWidth - right)}px`);
  }

  #toggled(open) {
    attr(this.button, "aria-expanded", String(open));
    if (open) {
      this.unsubscribe = store.subscribe({}, (kind, frame) => this.#frame(kind, frame));
      this.#read();
    } else {
      this.unsubscribe?.();
      this.unsubscribe = null;
      this.#see();
    }
  }

  /** All that the panel has shown is no news any more. */
  async #see() {
    const { link, position, unseen } = store.state;
    if (link !== "live" || !sum(unseen)) return;
    await api.seen(position).catch((error) => text(this.unseen, `Not marked as seen: ${error.message}`));
  }

  #heard(kind) {
    this.#state();
    if (!this.panel.matches(":popover-open")) return;
    if (kind === "reset") this.#read();
  }

  #frame(kind, { items, position }) {
    if (kind !== "tasks") return this.#read(position);
    const known = new Set(this.#tasks.map(({ id }) => id));
    const oldest = this.#tasks.at(-1)?.created_at ?? "";
    const comes = items.some(({ id, created_at }) => !known.has(id) && (created_at > oldest || known.size < LATEST));
    for (const task of items) this.#learn(task);
    if (comes) this.#read(position);
    this.#draw();
  }

  #learn(task) {
    const index = this.#tasks.findIndex(({ id }) => id === task.id);
    if (index >= 0 && isNewer(task, this.#tasks[index])) this.#tasks[index] = task;
  }

  async #read(position = 0) {
    if (this.#reading) return void (this.#reading = Math.max(this.#reading, position, 1));
    this.#reading = 1;
    try {
      const page = await api.list({ limit: LATEST, ...(position ? { min_position: position } : {}) });
      const known = new Map(this.#tasks.map((task) => [task.id, task]));
      this.#tasks = page.items.map((task) => (isNewer(task, known.get(task.id)) ? task : known.get(task.id)));
      text(this.none, page.items.length ? "" : "You have no tasks yet.");
    } catch (error) {
      text(this.none, `Could not load the latest tasks: ${error.message}`);
    }
    this.#draw();
    const again = this.#reading;
    setTimeout(() => {
      const next = this.#reading;
      this.#reading = null;
      if (next !== again || next > 1) this.#read(next > 1 ? next : 0);
    }, 500);
  }

  #draw() {
    const now = store.serverNow();
    const onTask = (task) => {
      this.#learn(task);
      this.#draw();
    };
    const create = (task) => {
      const row = new Latest(task, onTask);
      this.#rows.set(task.id, row);
      return row.element;
    };
    keyed(this.list, this.#tasks, ({ id }) => id, create, (_, task) => this.#rows.get(task.id).update(task, now));
    this.none.hidden = this.none.textContent === "";
    if (this.#rows.size > 200) this.#rows = new Map(this.#tasks.map(({ id }) => [id, this.#rows.get(id)]));
  }

  #state() {
    const { state } = store;
    const { counts, unseen, link } = state;
    for (const part of [this.button, this.panel]) attr(part, "data-link", link);
    text(this.name, bellName(state));
    text(this.link, linkText(state));
    attr(this.link, "title", state.since ? absolute(state.since) : null);
    if (!counts) {
      for (const tally of this.counters.values()) text(tally, "–");
      this.news.hidden = this.badge.hidden = true;
      for (const chip of Object.values(this.chips)) chip.parentElement.hidden = true;
      return;
    }
    for (const [status, tally] of this.counters) {
      text(tally, number(counts[status]));
      attr(tally.parentElement, "data-zero", counts[status] === 0);
    }
    const waiting = counts.queued + counts.scheduled + counts.retrying;
    this.#chip("running", counts.running + counts.cancelling);
    this.#chip("waiting", waiting);
    const fresh = sum(unseen);
    this.badge.hidden = fresh === 0;
    text(this.badge, fresh > 99 ? "99+" : String(fresh));
    attr(this.badge, "data-failed", unseen.failed > 0);
    this.news.hidden = fresh === 0;
    text(this.unseen, `New: ${["succeeded", "failed", "cancelled"].filter((name) => unseen[name]).map((name) => `${number(unseen[name])} ${name}`).join(", ")}`);
    this.#say();
  }

  #chip(name, n) {
    this.chips[name].parentElement.hidden = n === 0;
    text(this.chips[name], number(n));
  }

  /** One sentence about what ended, at most every five seconds. */
  #say() {
    const { unseen, counts } = store.state;
    const spoken = this.#spoken;
    spoken.unseen ??= { ...unseen };
    if (spoken.timer || !["succeeded", "failed", "cancelled"].some((name) => unseen[name] > spoken.unseen[name])) {
      if (!spoken.timer) spoken.unseen = { ...unseen };
      return;
    }
    spoken.timer = setTimeout(() => {
      spoken.timer = null;
      spoken.at = Date.now();
      const now = store.state.unseen ?? spoken.unseen;
      const ended = Object.keys(now).filter((name) => now[name] > spoken.unseen[name]).map((name) => `${count(now[name] - spoken.unseen[name], "task", "tasks")} ${name}`);
      spoken.unseen = { ...now };
      if (ended.length) text(this.status, `${ended.join(", ")}. ${number(store.state.counts?.running ?? counts.running)} running.`);
    }, Math.max(300, spoken.at + SAY_MS - Date.now()));
  }
}

customElements.define("taskbell-bell", TaskbellBell);
