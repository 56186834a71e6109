// <taskbell-tasks>: the list. The server's page is the truth; frames say when to read it again and patch what is shown.
import { api, store } from "./api.js";
import { keyed, root } from "./dom.js";
import { buildTasks } from "./tasks-frame.js";
import * as query from "./query.js";
import { Row } from "./row.js";
import { isNewer } from "./store.js";

const REFRESH_MS = 1000;
/** Between leaving the rows and their moving: long enough to reach the pill. */
const CALM_MS = 700;
const LEAVE_MS = { idle: 1500, busy: 5000 };

class TaskbellTasks extends HTMLElement {
  #params = new URLSearchParams();
  #page = null;
  #shown = [];
  #tasks = new Map();
  #rows = new Map();
  #gone = new Map();
  #fresh = new Set();
  #noticed = new Map();
  #request = null;
  #refreshing = { timer: null, at: 0, position: 0 };
  #settling = null;
  #off = [];

  connectedCallback() {
    if (!this.ui) this.ui = buildTasks(root(this), this);
    const routed = () => this.#route();
    addEventListener("popstate", routed);
    addEventListener("taskbell:route", routed);
    for (const name of ["pointerleave", "focusout", "settled"]) this.ui.body.addEventListener(name, () => this.#settleIn(CALM_MS));
    const ticker = setInterval(() => this.#tick(), 1000);
    this.#off = [
      () => removeEventListener("popstate", routed),
      () => removeEventListener("taskbell:route", routed),
      () => clearInterval(ticker),
      store.listen((kind) => (kind === "reset" ? this.#refresh(0, true) : this.#counts())),
    ];
    store.start();
    this.#counts();
    this.#route();
  }

  disconnectedCallback() {
    for (const off of [...this.#off, this.unsubscribe]) off?.();
    this.#request?.abort();
    clearTimeout(this.#settling);
    clearTimeout(this.#refreshing.timer);
    this.#refreshing.timer = null;
  }

  /** Shows the list that the filters say, and makes it a step of the history, or the same one while somebody types. */
  go(params, replace = false) {
    history[replace ? "replaceState" : "pushState"](null, "", query.url(params));
    this.#route();
  }

  get params() {
    return this.#params;
  }

  retry() {
    this.#load();
  }

  /** The pill: to the newest, now. */
  showNew() {
    this.ui.announceNew(0);
    if (this.#params.has("cursor")) this.go(query.change(this.#params, "cursor", null));
    else this.#adopt();
    scrollTo({ top: 0 });
  }

  #route() {
    if (location.pathname !== "/" && !this.hasAttribute("embedded")) return;
    const params = query.parse(location.search);
    const same = this.#page && params.toString() === this.#params.toString();
    this.#params = params;
    this.ui.filters(params);
    if (same) return;
    this.#gone.clear();
    this.#fresh.clear();
    this.unsubscribe?.();
    this.unsubscribe = store.subscribe(query.subscription(params), (kind, frame) => this.#frame(kind, frame));
    this.#load();
  }

  async #load(silent = false) {
    this.#request?.abort();
    const request = (this.#request = new AbortController());
    const params = new URLSearchParams(this.#params);
    if (silent && this.#refreshing.position) params.set("min_position", this.#refreshing.position);
    this.ui.busy(true, this.#page === null);
    try {
      const page = await api.list(params, request.signal);
      if (request.signal.aborted) return;
      this.#page = page;
      for (const task of page.items) this.#learn(task);
      this.ui.failed(null);
      if (silent) this.#settle();
      else this.#adopt();
    } catch (error) {
      if (request.signal.aborted) return;
      this.ui.failed(error, this.#page !== null);
      this.#refreshing.at = Date.now() + 2 * REFRESH_MS;
      if (silent && (error.status === 0 || error.status >= 500)) this.#refresh(0);
    } finally {
      if (this.#request === request) {
        this.#request = null;
        this.ui.busy(false);
      }
    }
  }

  /** Reads the page again, soon: at most once a second, however much happens. */
  #refresh(position, now = false) {
    const r = this.#refreshing;
    r.position = now ? 0 : Math.max(r.position, position);
    if (r.timer) return;
    r.timer = setTimeout(() => {
      r.timer = null;
      r.at = Date.now();
      if (this.#request && !now) this.#refresh(position);
      else this.#load(true);
    }, now ? 0 : Math.max(100, r.at + REFRESH_MS - Date.now()));
  }

  #learn(task) {
    const known = this.#tasks.get(task.id);
    if (isNewer(task, known)) this.#tasks.set(task.id, task);
  }

  #frame(kind, { position, items }) {
    if (kind === "tasks_changed") return this.#refresh(position);
    if (kind === "subscribed") return !this.#page || this.#page.position < position ? this.#refresh(position) : undefined;
    let moved = false;
    for (const task of items) {
      const here = this.#rows.has(task.id);
      const before = here ? this.#tasks.get(task.id)?.revision : this.#noticed.get(task.id);
      if (here) this.#learn(task);
      else if (task.revision === 0 || before === undefined) this.#isFresh(task);
      if (before !== task.revision) moved = true;
      if (!here) this.#noticed.set(task.id, task.revision);
      if (here) this.#draw(task.id);
    }
    if (this.#noticed.size > 5000) this.#noticed.clear();
    if (moved) this.#refresh(position);
  }

  #isFresh(task) {
    const chosen = query.statuses(this.#params);
    const newest = this.#page?.items[0]?.created_at ?? "";
    if (this.#params.has("cursor") && task.created_at > newest && (!chosen.size || chosen.has(task.status))) this.#fresh.add(task.id);
  }

  /** An answer to something that was pressed here. */
  answered(task) {
    this.#learn(task);
    this.#draw(task.id);
    this.#refresh(task.position);
  }

  #draw(id) {
    this.#rows.get(id)?.update(this.#tasks.get(id), store.serverNow(), this.#gone.has(id));
  }

  #busy() {
    const { body, pill } = this.ui;
    const open = [...this.#rows.values()].some((row) => row.cross.open);
    const focused = body.contains(this.shadowRoot.activeElement);
    return { open, any: open || focused || body.matches(":hover") || pill.matches(":hover, :focus") };
  }

  #settleIn(ms) {
    clearTimeout(this.#settling);
    this.#settling = setTimeout(() => this.#settle(), ms);
  }

  /** Takes the page that was read last as it is. */
  #adopt() {
    this.#gone.clear();
    this.#fresh.clear();
    this.#show(this.#page.items.map(({ id }) => id));
  }

  /** Takes as much of the page as may change without moving rows away from somebody's pointer or focus. */
  #settle() {
    if (!this.#page) return;
    clearTimeout(this.#settling);
    const { open, any } = this.#busy();
    const now = Date.now();
    const next = this.#page.items.map(({ id }) => id);
    const wanted = new Set(next);
    const here = new Set(this.#shown);
    const away = this.ui.body.getBoundingClientRect().top < 0;
    const still = any || away || this.#params.has("cursor");
    let wait = Infinity;
    const kept = this.#shown.filter((id) => {
      if (wanted.has(id)) return !this.#gone.delete(id) || true;
      if (!this.#hasLeft(id)) return still;
      if (!this.#gone.has(id)) this.#gone.set(id, now);
      const left = this.#gone.get(id) + (any ? LEAVE_MS.busy : LEAVE_MS.idle) - now;
      const held = open || left > 0 || this.#rows.get(id)?.element.matches(":focus-within");
      if (held) wait = Math.min(wait, Math.max(left, 250));
      else this.#gone.delete(id);
      return held;
    });
    const last = next.findLastIndex((id) => here.has(id));
    const come = next.filter((id, index) => !here.has(id) && (index < last || last < 0));
    const tail = last < 0 ? [] : next.slice(last + 1);
    if (still && kept.length) this.#show([...kept, ...tail], come.length);
    else this.#show(this.#merge(next, kept));
    if (wait < Infinity) this.#settleIn(wait);
  }

  /** Whether it is the filter that the row has left, not the page. */
  #hasLeft(id) {
    const chosen = query.statuses(this.#params);
    return chosen.size > 0 && !chosen.has(this.#tasks.get(id).status);
  }

  /** The new order, with the rows that are on their way out where they were. */
  #merge(next, kept) {
    const merged = [...next];
    kept.forEach((id, index) => {
      if (!this.#gone.has(id)) return;
      const before = kept.slice(0, index).findLast((other) => merged.includes(other));
      merged.splice(before === undefined ? 0 : merged.indexOf(before) + 1, 0, id);
    });
    return merged;
  }

  #show(ids, waiting = 0) {
    const now = store.serverNow();
    const first = this.#shown.length === 0;
    const create = (id) => {
      const row = new Row(this.#tasks.get(id), {
        onTask: (task) => this.answered(task),
        kindUrl: (kind) => query.url(query.change(this.#params, "kind", kind)),
      });
      if (!first) row.element.classList.add("new");
      this.#rows.set(id, row);
      return row.element;
    };
    keyed(this.ui.body, ids, (id) => id, create, (_, id) => this.#rows.get(id).update(this.#tasks.get(id), now, this.#gone.has(id)));
    this.#shown = ids;
    const live = new Set(ids);
    for (const id of this.#rows.keys()) if (!live.has(id)) this.#rows.delete(id);
    for (const id of this.#tasks.keys()) if (!live.has(id) && !this.#page.items.some((task) => task.id === id)) this.#tasks.delete(id);
    this.ui.page(this.#page, this.#params, ids.length);
    this.ui.announceNew(waiting + this.#fresh.size, waiting >= this.#page.items.length);
  }

  #tick() {
    const now = store.serverNow();
    for (const row of this.#rows.values()) row.tick(now);
  }

  #counts() {
    this.ui.counts(store.state);
  }
}

customElements.define("taskbell-tasks", TaskbellTasks);
