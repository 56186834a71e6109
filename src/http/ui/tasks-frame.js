// The parts of the list around its rows: filters, table head, paging, and the texts for an empty list.
import { ROOT } from "./base.js";
import { setAttr, h, updateChildren, setText } from "./dom.js";
import { count, number, statusLabel } from "./format.js";
import { icon } from "./icons.js";
import * as query from "./query.js";
import { STATUSES } from "./store.js";

const COLUMNS = ["Status", "Task", "Started", "Outcome"];

function filterBar(view) {
  const boxes = STATUSES.map((status) => {
    const box = h("input", { type: "checkbox", value: status, onchange: () => view.go(query.toggleStatus(view.params, status, box.checked)) });
    const tally = h("span", { class: "tally" }, "–");
    return { status, box, tally, label: h("label", { class: "check", "data-status": status }, box, h("span", null, statusLabel(status)), tally) };
  });
  let typing = null;
  let typed = false;
  const search = h("input", { type: "search", "aria-label": "Search in titles and outcomes", placeholder: "Search titles and outcomes", autocomplete: "off", spellcheck: "false" });
  search.addEventListener("input", () => {
    clearTimeout(typing);
    typing = setTimeout(() => {
      view.go(query.change(view.params, "q", search.value.trim()), typed);
      typed = true;
    }, 250);
  });
  search.addEventListener("blur", () => (typed = false));
  const chips = h("ul", { class: "chips", "aria-label": "Other filters" });
  const element = h("div", { class: "filters" },
    h("fieldset", null, h("legend", { class: "sr" }, "Status"), ...boxes.map(({ label }) => label)),
    h("label", { class: "search" }, icon("search"), search), chips);
  const show = (params, hasChoice) => {
    const chosen = query.statuses(params);
    for (const { status, box } of boxes) box.checked = chosen.has(status);
    if (!search.matches(":focus") || !typed) search.value = params.get("q") ?? "";
    const create = ([name, value]) => h("li", null, h("button", { type: "button", class: "chip", "aria-label": `Remove filter ${name}: ${value}`, onclick: () => view.go(query.without(view.params, name, value)) }, `${name}: ${value}`, icon("cross")));
    const given = query.chips(params).filter(([name]) => name !== "owner" || !hasChoice);
    chips.hidden = given.length === 0;
    updateChildren(chips, given, String, create, () => {});
  };
  const counts = (state) => {
    for (const { status, tally, label } of boxes) {
      setText(tally, state.counts ? number(state.counts[status]) : "–");
      setAttr(label, "data-zero", state.counts?.[status] === 0);
    }
    setAttr(element, "data-connection", state.connection);
  };
  return { element, show, counts };
}

/** The choice between the caller's own tasks and those of everyone, for a caller who may see everyone's. */
function whoseChoice(view) {
  const choices = ["mine", "everyone"].map((choice) => {
    const input = h("input", { type: "radio", name: "whose", value: choice, onchange: () => view.show(choice) });
    return { choice, input, label: h("label", { class: "choice" }, input, h("span", null, choice === "mine" ? "Mine" : "Everyone")) };
  });
  const element = h("fieldset", { class: "whose", hidden: true }, h("legend", { class: "sr" }, "Whose tasks"), ...choices.map(({ label }) => label));
  const update = (isShown, chosen) => {
    element.hidden = !isShown;
    for (const { choice, input } of choices) input.checked = choice === chosen;
  };
  return { element, update };
}

function pager(view) {
  const total = h("span", { class: "total", role: "status" });
  const limit = h("select", { "aria-label": "Tasks on a page", onchange: () => view.go(query.change(view.params, "limit", limit.value === "20" ? null : limit.value)) },
    ...query.LIMITS.map((n) => h("option", { value: n }, `${n} a page`)));
  const order = h("select", { "aria-label": "Order", onchange: () => view.go(query.change(view.params, "order", order.value === "asc" ? "asc" : null)) },
    h("option", { value: "desc" }, "Newest first"), h("option", { value: "asc" }, "Oldest first"));
  const step = (label, rel) => h("a", { class: "button", rel }, label);
  const [first, newer, older] = [step("First", "first"), step("Previous", "prev"), step("Next", "next")];
  const element = h("nav", { class: "pager", "aria-label": "Pages" }, total, h("span", { class: "choices" }, order, limit), h("span", { class: "steps" }, first, newer, older));
  const setLink = (anchor, params, cursor) => {
    const next = query.change(params, "cursor", null);
    if (cursor) next.set("cursor", cursor);
    setAttr(anchor, "href", cursor === undefined ? null : query.url(next));
    setAttr(anchor, "aria-disabled", cursor === undefined ? "true" : null);
  };
  const show = (page, params) => {
    setText(total, count(page.total, "task", "tasks"));
    limit.value = params.get("limit") ?? "20";
    order.value = params.get("order") ?? "desc";
    const paged = params.has("cursor");
    setLink(first, params, paged ? null : undefined);
    setLink(newer, params, paged && page.prev ? page.prev : undefined);
    setLink(older, params, page.next ?? undefined);
    setAttr(element, "data-single", !paged && !page.next);
  };
  return { element, show };
}

function buildNotes(view) {
  const clearLink = () => h("a", { class: "button", href: ROOT }, "Clear filters");
  const retryButton = () => h("button", { type: "button", onclick: () => view.retry() }, "Try again");
  const errorText = h("p");
  const emptyText = h("h2");
  const emptyNote = h("div", { class: "note", hidden: true }, icon("bell"), emptyText, h("p", null, "Background tasks appear here automatically."));
  const noMatchNote = h("div", { class: "note", hidden: true }, icon("search"), h("h2", null, "No task matches these filters"), clearLink());
  const errorNote = h("div", { class: "note", role: "alert", hidden: true }, icon("failed"), h("h2", null, "Could not load the tasks"), errorText, h("div", { class: "line" }, retryButton(), clearLink()));
  const bannerText = h("span");
  const banner = h("div", { class: "banner", role: "alert", hidden: true }, icon("failed"), bannerText, retryButton());
  return { element: h("div", null, emptyNote, noMatchNote, errorNote), emptyNote, emptyText, noMatchNote, errorNote, errorText, banner, bannerText };
}

/** Builds the list once. Returns the parts and functions that update it. */
export function buildTasks(shadow, view) {
  const bar = filterBar(view);
  const whose = whoseChoice(view);
  const foot = pager(view);
  const notes = buildNotes(view);
  const body = h("tbody", { role: "rowgroup" });
  const head = h("tr", { role: "row" }, ...COLUMNS.map((name) => h("th", { scope: "col", role: "columnheader" }, name)));
  const caption = h("caption", { class: "sr" });
  const table = h("table", { role: "table" }, caption, h("thead", { role: "rowgroup" }, head), body);
  const skeleton = h("div", { class: "skeleton", role: "status", "aria-label": "Loading tasks" }, ...Array.from({ length: 8 }, () => h("i")));
  const newTasksButton = h("button", { type: "button", class: "new-tasks", hidden: true, onclick: () => view.showNew() });
  const card = h("div", { class: "card" }, table, skeleton, notes.element);
  shadow.append(h("section", { class: "tasks", "aria-label": "Tasks" }, h("div", { class: "line tasks-head" }, h("h1", null, "Tasks"), whose.element), bar.element, notes.banner, h("div", { class: "new-tasks-line" }, newTasksButton), card, foot.element));
  table.hidden = foot.element.hidden = true;
  return {
    body, newTasksButton,
    /** `whose`: {isShown, choice, text}, see `TaskbellTasks`. */
    filters(params, { isShown, choice, text }) {
      bar.show(params, isShown && choice !== null);
      whose.update(isShown, choice);
      setText(caption, `${text}, in order of creation`);
      setText(notes.emptyText, choice === "mine" ? "You have no tasks yet" : "There are no tasks yet");
    },
    /** Shows no task and no number of tasks, until a page is shown. */
    clear() {
      table.hidden = foot.element.hidden = newTasksButton.hidden = true;
      for (const note of [notes.emptyNote, notes.noMatchNote, notes.errorNote, notes.banner]) note.hidden = true;
    },
    counts: bar.counts,
    busy(on, first) {
      setAttr(card, "aria-busy", on ? "true" : null);
      if (on && first) notes.errorNote.hidden = true;
      skeleton.hidden = !(on && first);
    },
    failed(error, kept) {
      notes.errorNote.hidden = !error || kept;
      notes.banner.hidden = !error || !kept;
      setText(notes.errorText, error?.message ?? "");
      setText(notes.bannerText, error ? `Could not read the newest tasks: ${error.message}` : "");
    },
    page(page, params, rows) {
      const filtered = query.isFiltered(params) || params.has("cursor");
      table.hidden = rows === 0;
      notes.emptyNote.hidden = rows > 0 || filtered;
      notes.noMatchNote.hidden = rows > 0 || !filtered;
      foot.element.hidden = rows === 0 && !filtered;
      foot.show(page, params);
    },
    announceNew(n, hasMore = false) {
      newTasksButton.hidden = n === 0;
      if (n) newTasksButton.replaceChildren(icon("up"), hasMore ? `${number(n)}+ new tasks` : count(n, "new task", "new tasks"));
    },
  };
}
