// The parts of the list around its rows: filters, table head, paging, and the texts for an empty list.
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
  const show = (params) => {
    const chosen = query.statuses(params);
    for (const { status, box } of boxes) box.checked = chosen.has(status);
    if (!search.matches(":focus") || !typed) search.value = params.get("q") ?? "";
    const create = ([name, value]) => h("li", null, h("button", { type: "button", class: "chip", "aria-label": `Remove filter ${name}: ${value}`, onclick: () => view.go(query.without(view.params, name, value)) }, `${name}: ${value}`, icon("cross")));
    const given = query.chips(params);
    chips.hidden = given.length === 0;
    updateChildren(chips, given, String, create, () => {});
  };
  const counts = (state) => {
    for (const { status, tally, label } of boxes) {
      setText(tally, state.counts ? number(state.counts[status]) : "–");
      setAttr(label, "data-zero", state.counts?.[status] === 0);
    }
    setAttr(element, "data-link", state.link);
  };
  return { element, show, counts };
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
  const link = (anchor, params, cursor) => {
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
    link(first, params, paged ? null : undefined);
    link(newer, params, paged && page.prev ? page.prev : undefined);
    link(older, params, page.next ?? undefined);
    setAttr(element, "data-single", !paged && !page.next);
  };
  return { element, show };
}

function notes(view) {
  const clear = () => h("a", { class: "button", href: "/" }, "Clear filters");
  const again = () => h("button", { type: "button", onclick: () => view.retry() }, "Try again");
  const said = h("p");
  const none = h("div", { class: "note", hidden: true }, icon("bell"), h("h2", null, "You have no tasks yet"), h("p", null, "What runs in the background will appear here, by itself."));
  const filtered = h("div", { class: "note", hidden: true }, icon("search"), h("h2", null, "No task matches these filters"), clear());
  const broken = h("div", { class: "note", role: "alert", hidden: true }, icon("failed"), h("h2", null, "Could not load the tasks"), said, h("div", { class: "line" }, again(), clear()));
  const bannerText = h("span");
  const banner = h("div", { class: "banner", role: "alert", hidden: true }, icon("failed"), bannerText, again());
  return { element: h("div", null, none, filtered, broken), none, filtered, broken, said, banner, bannerText };
}

/** Builds the list once. Returns the parts and functions that update it. */
export function buildTasks(shadow, view) {
  const bar = filterBar(view);
  const foot = pager(view);
  const note = notes(view);
  const body = h("tbody", { role: "rowgroup" });
  const head = h("tr", { role: "row" }, ...COLUMNS.map((name) => h("th", { scope: "col", role: "columnheader" }, name)));
  const table = h("table", { role: "table" }, h("caption", { class: "sr" }, "Your background tasks, by time of request"), h("thead", { role: "rowgroup" }, head), body);
  const skeleton = h("div", { class: "skeleton", role: "status", "aria-label": "Loading tasks" }, ...Array.from({ length: 8 }, () => h("i")));
  const pill = h("button", { type: "button", class: "pill", hidden: true, onclick: () => view.showNew() });
  const card = h("div", { class: "card" }, table, skeleton, note.element);
  shadow.append(h("section", { class: "tasks", "aria-label": "Tasks" }, h("h1", null, "Tasks"), bar.element, note.banner, h("div", { class: "pill-line" }, pill), card, foot.element));
  table.hidden = foot.element.hidden = true;
  return {
    body, pill,
    filters: bar.show,
    counts: bar.counts,
    busy(on, first) {
      setAttr(card, "aria-busy", on ? "true" : null);
      if (on && first) note.broken.hidden = true;
      skeleton.hidden = !(on && first);
    },
    failed(error, kept) {
      note.broken.hidden = !error || kept;
      note.banner.hidden = !error || !kept;
      setText(note.said, error?.message ?? "");
      setText(note.bannerText, error ? `Could not read the newest tasks: ${error.message}` : "");
    },
    page(page, params, rows) {
      const filtered = query.isFiltered(params) || params.has("cursor");
      table.hidden = rows === 0;
      note.none.hidden = rows > 0 || filtered;
      note.filtered.hidden = rows > 0 || !filtered;
      foot.element.hidden = rows === 0 && !filtered;
      foot.show(page, params);
    },
    announceNew(n, more = false) {
      pill.hidden = n === 0;
      if (n) pill.replaceChildren(icon("up"), more ? `${number(n)}+ new tasks` : count(n, "new task", "new tasks"));
    },
  };
}
