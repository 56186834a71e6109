// Shows the view for the address, and changes between views without a page load, so that the websocket stays open.
import "./address.js";
import { store } from "./api.js";
import { ROOT } from "./base.js";
import "./bell.js";
import { h } from "./dom.js";
import { number } from "./format.js";
import * as query from "./query.js";
import "./task.js";
import "./tasks.js";
import { visible } from "./visible.js";

const main = document.querySelector("main");
const isList = (path) => path === ROOT;
let shownView = null;
let heading = "Tasks";

function updateTitle() {
  const running = store.state.counts?.running;
  document.title = `${running ? `(${number(running)}) ` : ""}${visible(heading)} – Taskbell`;
}

function showRoute() {
  const { pathname, search } = location;
  store.setOwner(query.owner(search));
  const view = isList(pathname) ? "list" : pathname;
  if (view === shownView) return;
  const isFirst = shownView === null;
  shownView = view;
  heading = isList(pathname) ? "Tasks" : "Task";
  updateTitle();
  const id = decodeURIComponent(pathname.slice(`${ROOT}tasks/`.length));
  main.replaceChildren(isList(pathname) ? h("taskbell-tasks") : h("taskbell-task", { "task-id": id }));
  if (!isFirst) main.focus({ preventScroll: true });
  if (!isFirst && !history.state?.scroll) scrollTo({ top: 0 });
}

function restoreScroll() {
  const top = history.state?.scroll;
  if (!top) return;
  const deadline = Date.now() + 1500;
  const scroll = () => {
    scrollTo({ top, behavior: "instant" });
    if (Math.abs(scrollY - top) > 2 && Date.now() < deadline) requestAnimationFrame(scroll);
  };
  scroll();
}

function navigate(url) {
  history.replaceState({ scroll: scrollY }, "");
  history.pushState(null, "", url);
  showRoute();
  dispatchEvent(new Event("taskbell:route"));
}

document.addEventListener("click", (event) => {
  if (event.defaultPrevented || event.button !== 0 || event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
  const anchor = event.composedPath().find((node) => node instanceof HTMLAnchorElement);
  if (!anchor?.href || anchor.target || anchor.hash || anchor.origin !== location.origin) return;
  if (!isList(anchor.pathname) && !anchor.pathname.startsWith(`${ROOT}tasks/`)) return;
  event.preventDefault();
  navigate(query.withOwner(anchor.pathname + anchor.search, store.owner));
});
history.scrollRestoration = "manual";
addEventListener("popstate", () => {
  showRoute();
  restoreScroll();
});
addEventListener("titled", ({ detail }) => {
  heading = detail;
  updateTitle();
});
store.listen(updateTitle);
showRoute();
