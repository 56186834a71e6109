// <taskbell-tasks>: the list of tasks. Its rows come from pages of the HTTP API. Frames of the websocket update rows that are
// shown, and cause the element to request the page again.
import { api, store } from "./api.js";
import { ROOT } from "./base.js";
import { updateChildren, openShadowRoot } from "./dom.js";
import { whoseTasks } from "./format.js";
import { buildTasks } from "./tasks-frame.js";
import * as query from "./query.js";
import { Row } from "./row.js";
import { isNewer } from "./store.js";
import { choiceOf, maySeeEveryone, ownerFor, who } from "./who.js";

const REFRESH_MS = 1000;
/** How long the rows stay unchanged after the pointer has left them. In this time the pointer can reach the button for new tasks. */
const UPDATE_DELAY_MS = 700;
/** How long a row that no longer matches the filter is still shown. `idle`: nobody uses the rows. `busy`: the pointer or the focus is on them. */
const LEAVE_MS = { idle: 1500, busy: 5000 };

class TaskbellTasks extends HTMLElement {
  #params = new URLSearchParams();
  /** Null until the server has said who the caller is. */
  #caller = null;
  #page = null;
  /** The ids of the rows, in order. */
  #shownIds = [];
  #tasks = new Map();
  #rows = new Map();
  /** Rows that no longer match the filter: by id, the time when this was detected. */
  #leavingSince = new Map();
  /** Tasks that are newer than the page that is shown. */
  #newTaskIds = new Set();
  /** The last known revisions of tasks that have no row, by id. */
  #otherRevisions = new Map();
  #request = null;
  #refreshState = { timer: null, at: 0, position: 0 };
  #updateTimer = null;
  #unsubscribers = [];

  connectedCallback() {
    if (!this.ui) this.ui = buildTasks(openShadowRoot(this), this);
    const onRoute = () => this.#route();
    addEventListener("popstate", onRoute);
    addEventListener("taskbell:route", onRoute);
    for (const name of ["pointerleave", "focusout", "confirmationclosed"]) this.ui.body.addEventListener(name, () => this.#scheduleUpdate(UPDATE_DELAY_MS));
    const ticker = setInterval(() => this.#tick(), 1000);
    this.#unsubscribers = [
      () => removeEventListener("popstate", onRoute),
      () => removeEventListener("taskbell:route", onRoute),
      () => clearInterval(ticker),
      store.listen((change) => (change === "reset" ? this.#reset() : this.#drawCounts())),
    ];
    this.#route();
    store.start();
    this.#drawCounts();
    this.#readCaller();
  }

  #reset() {
    this.#refresh(0, true);
    if (!this.#caller) this.#readCaller();
  }

  async #readCaller() {
    this.#caller = await who().catch(() => null);
    if (maySeeEveryone(this.#caller)) store.allowEveryone();
    this.#drawFilters();
  }

  disconnectedCallback() {
    for (const unsubscribe of [...this.#unsubscribers, this.unsubscribe]) unsubscribe?.();
    this.#request?.abort();
    clearTimeout(this.#updateTimer);
    clearTimeout(this.#refreshState.timer);
    this.#refreshState.timer = null;
  }

  /** Shows the list for these filters and adds an entry to the browser's history. With `replace`, while the user types, it replaces the current entry. */
  go(params, replace = false) {
    history[replace ? "replaceState" : "pushState"](null, "", query.url(params));
    this.#route();
  }

  /** Shows the tasks of this choice, "mine" or "everyone". */
  show(choice) {
    this.go(query.change(this.#params, "owner", ownerFor(choice, this.#caller)));
  }

  get params() {
    return this.#params;
  }

  retry() {
    this.#load();
  }

  /** Handles a click on the button for new tasks: shows the newest tasks. */
  showNew() {
    this.ui.announceNew(0);
    if (this.#params.has("cursor")) this.go(query.change(this.#params, "cursor", null));
    else this.#showPage();
    scrollTo({ top: 0 });
  }

  #route() {
    if (location.pathname !== ROOT && !this.hasAttribute("embedded")) return;
    const params = query.parse(location.search);
    const same = this.#page && params.toString() === this.#params.toString();
    const former = this.#params.get("owner");
    this.#params = params;
    store.setOwner(params.get("owner"));
    if (former !== params.get("owner")) this.#clear();
    this.#drawFilters();
    if (same) return;
    this.#leavingSince.clear();
    this.#newTaskIds.clear();
    this.unsubscribe?.();
    this.unsubscribe = store.subscribe(query.subscription(params), (frameType, frame) => this.#handleFrame(frameType, frame));
    this.#load();
  }

  #drawFilters() {
    const owner = this.#params.get("owner");
    const choice = choiceOf(owner, this.#caller);
    this.ui.filters(this.#params, { isShown: maySeeEveryone(this.#caller), choice, text: whoseTasks(choice, owner) });
  }

  /** Forgets the tasks of the former owner, so that none of them stands beside the counts of another. */
  #clear() {
    this.#page = null;
    this.#shownIds = [];
    for (const known of [this.#tasks, this.#rows, this.#otherRevisions]) known.clear();
    updateChildren(this.ui.body, [], String);
    this.ui.clear();
  }

  async #load(silent = false) {
    this.#request?.abort();
    const request = (this.#request = new AbortController());
    const params = new URLSearchParams(this.#params);
    if (silent && this.#refreshState.position) params.set("min_position", this.#refreshState.position);
    this.ui.busy(true, this.#page === null);
    try {
      const page = await api.list(params, request.signal);
      if (request.signal.aborted) return;
      this.#page = page;
      for (const task of page.items) this.#mergeTask(task);
      this.ui.failed(null);
      if (silent) this.#updateRows();
      else this.#showPage();
    } catch (error) {
      if (request.signal.aborted) return;
      this.ui.failed(error, this.#page !== null);
      this.#refreshState.at = Date.now() + 2 * REFRESH_MS;
      if (silent && (error.status === 0 || error.status >= 500)) this.#refresh(0);
    } finally {
      if (this.#request === request) {
        this.#request = null;
        this.ui.busy(false);
      }
    }
  }

  /** Schedules a request of the page, at most one in a second. The page must reflect `position`. With `now` it is requested at once. */
  #refresh(position, now = false) {
    const state = this.#refreshState;
    state.position = now ? 0 : Math.max(state.position, position);
    if (state.timer) return;
    state.timer = setTimeout(() => {
      state.timer = null;
      state.at = Date.now();
      if (this.#request && !now) this.#refresh(position);
      else this.#load(true);
    }, now ? 0 : Math.max(100, state.at + REFRESH_MS - Date.now()));
  }

  #mergeTask(task) {
    const known = this.#tasks.get(task.id);
    if (isNewer(task, known)) this.#tasks.set(task.id, task);
  }

  #handleFrame(frameType, { position, items }) {
    if (frameType === "tasks_changed") return this.#refresh(position);
    if (frameType === "subscribed") return !this.#page || this.#page.position < position ? this.#refresh(position) : undefined;
    let hasChanged = false;
    for (const task of items) {
      const isShown = this.#rows.has(task.id);
      const knownRevision = isShown ? this.#tasks.get(task.id)?.revision : this.#otherRevisions.get(task.id);
      if (isShown) this.#mergeTask(task);
      else if (task.revision === 0 || knownRevision === undefined) this.#countNewTask(task);
      if (knownRevision !== task.revision) hasChanged = true;
      if (!isShown) this.#otherRevisions.set(task.id, task.revision);
      if (isShown) this.#drawRow(task.id);
    }
    if (this.#otherRevisions.size > 5000) this.#otherRevisions.clear();
    if (hasChanged) this.#refresh(position);
  }

  /** Counts the task for the button "new tasks" if it belongs to a newer page than the one that is shown. */
  #countNewTask(task) {
    const chosen = query.statuses(this.#params);
    const newest = this.#page?.items[0]?.created_at ?? "";
    if (this.#params.has("cursor") && task.created_at > newest && (!chosen.size || chosen.has(task.status))) this.#newTaskIds.add(task.id);
  }

  /** Shows the task in the response to a click in its row. */
  applyResponse(task) {
    this.#mergeTask(task);
    this.#drawRow(task.id);
    this.#refresh(task.position);
  }

  #drawRow(id) {
    this.#rows.get(id)?.update(this.#tasks.get(id), store.serverNow(), this.#leavingSince.has(id));
  }

  /** Whether a cancel confirmation is open, and whether the pointer or the focus is on the rows. */
  #interaction() {
    const { body, newTasksButton } = this.ui;
    const hasOpenConfirmation = [...this.#rows.values()].some((row) => row.cancelButton.isOpen);
    const hasFocus = body.contains(this.shadowRoot.activeElement);
    return { hasOpenConfirmation, isInUse: hasOpenConfirmation || hasFocus || body.matches(":hover") || newTasksButton.matches(":hover, :focus") };
  }

  #scheduleUpdate(ms) {
    clearTimeout(this.#updateTimer);
    this.#updateTimer = setTimeout(() => this.#updateRows(), ms);
  }

  /** Shows the latest page without regard to the rows that are shown. */
  #showPage() {
    this.#leavingSince.clear();
    this.#newTaskIds.clear();
    this.#drawRows(this.#page.items.map(({ id }) => id));
  }

  /**
   * Shows the latest page, but moves no row while the user may be about to click it.
   *
   * If the rows must keep their order, only rows at the end are added, and the button "new tasks" counts the others. A row that no longer
   * matches the filter is shown a little longer, dimmed, and then removed.
   */
  #updateRows() {
    if (!this.#page) return;
    clearTimeout(this.#updateTimer);
    const { hasOpenConfirmation, isInUse } = this.#interaction();
    const now = Date.now();
    const nextIds = this.#page.items.map(({ id }) => id);
    const nextSet = new Set(nextIds);
    const shownSet = new Set(this.#shownIds);
    const isScrolled = this.ui.body.getBoundingClientRect().top < 0;
    const keepsRows = isInUse || isScrolled || this.#params.has("cursor");
    let wait = Infinity;
    const keptIds = this.#shownIds.filter((id) => {
      if (nextSet.has(id)) return !this.#leavingSince.delete(id) || true;
      if (!this.#hasLeftFilter(id)) return keepsRows;
      if (!this.#leavingSince.has(id)) this.#leavingSince.set(id, now);
      const left = this.#leavingSince.get(id) + (isInUse ? LEAVE_MS.busy : LEAVE_MS.idle) - now;
      const isKept = hasOpenConfirmation || left > 0 || this.#rows.get(id)?.element.matches(":focus-within");
      if (isKept) wait = Math.min(wait, Math.max(left, 250));
      else this.#leavingSince.delete(id);
      return isKept;
    });
    const lastShown = nextIds.findLastIndex((id) => shownSet.has(id));
    const arriving = nextIds.filter((id, index) => !shownSet.has(id) && (index < lastShown || lastShown < 0));
    const appended = lastShown < 0 ? [] : nextIds.slice(lastShown + 1);
    if (keepsRows && keptIds.length) this.#drawRows([...keptIds, ...appended], arriving.length);
    else this.#drawRows(this.#mergeLeaving(nextIds, keptIds));
    if (wait < Infinity) this.#scheduleUpdate(wait);
  }

  /** Whether the row no longer matches the status filter. Otherwise it has only moved to another page. */
  #hasLeftFilter(id) {
    const chosen = query.statuses(this.#params);
    return chosen.size > 0 && !chosen.has(this.#tasks.get(id).status);
  }

  /** Returns the new order. A row that no longer matches the filter stays after the row that it followed before. */
  #mergeLeaving(nextIds, keptIds) {
    const merged = [...nextIds];
    keptIds.forEach((id, index) => {
      if (!this.#leavingSince.has(id)) return;
      const before = keptIds.slice(0, index).findLast((other) => merged.includes(other));
      merged.splice(before === undefined ? 0 : merged.indexOf(before) + 1, 0, id);
    });
    return merged;
  }

  /** Draws these rows. `waiting` is the number of new tasks that are not shown yet. */
  #drawRows(ids, waiting = 0) {
    const now = store.serverNow();
    const isFirst = this.#shownIds.length === 0;
    const create = (id) => {
      const row = new Row(this.#tasks.get(id), {
        onTask: (task) => this.applyResponse(task),
        kindUrl: (kind) => query.url(query.change(this.#params, "kind", kind)),
      });
      if (!isFirst) row.element.classList.add("new");
      this.#rows.set(id, row);
      return row.element;
    };
    updateChildren(this.ui.body, ids, (id) => id, create, (_, id) => this.#rows.get(id).update(this.#tasks.get(id), now, this.#leavingSince.has(id)));
    this.#shownIds = ids;
    const drawnIds = new Set(ids);
    for (const id of this.#rows.keys()) if (!drawnIds.has(id)) this.#rows.delete(id);
    for (const id of this.#tasks.keys()) if (!drawnIds.has(id) && !this.#page.items.some((task) => task.id === id)) this.#tasks.delete(id);
    this.ui.page(this.#page, this.#params, ids.length);
    this.ui.announceNew(waiting + this.#newTaskIds.size, waiting >= this.#page.items.length);
  }

  #tick() {
    const now = store.serverNow();
    for (const row of this.#rows.values()) row.tick(now);
  }

  #drawCounts() {
    this.ui.counts(store.state);
  }
}

customElements.define("taskbell-tasks", TaskbellTasks);
