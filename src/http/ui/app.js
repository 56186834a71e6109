// The page: which view the address means, and steps from one to the other without losing the socket.
import { store } from "./api.js";
import "./bell.js";
import { h } from "./dom.js";
import { number } from "./format.js";
import "./task.js";
import "./tasks.js";

const main = document.querySelector("main");
const isList = (path) => path === "/";
let shown = null;
let heading = "Tasks";

function title() {
  const running = store.state.counts?.running;
  document.title = `${running ? `(${number(running)}) ` : ""}${heading} – Taskbell`;
}

function show() {
  const { pathname } = location;
  const view = isList(pathname) ? "list" : pathname;
  if (view === shown) return;
  const first = shown === null;
  shown = view;
  heading = isList(pathname) ? "Tasks" : "Task";
  title();
  const id = decodeURIComponent(pathname.replace(/^\/tasks\//, ""));
  main.replaceChildren(isList(pathname) ? h("taskbell-tasks") : h("taskbell-task", { "task-id": id }));
  if (!first) main.focus({ preventScroll: true });
  if (!first && !history.state?.scroll) scrollTo({ top: 0 });
}

function restore() {
  const top = history.state?.scroll;
  if (!top) return;
  const stop = Date.now() + 1500;
  const attempt = () => {
    scrollTo({ top, behavior: "instant" });
    if (Math.abs(scrollY - top) > 2 && Date.now() < stop) requestAnimationFrame(attempt);
  };
  attempt();
}

function go(url) {
  history.replaceState({ scroll: scrollY }, "");
  history.pushState(null, "", url);
  show();
  dispatchEvent(new Event("taskbell:route"));
}

document.addEventListener("click", (event) => {
  if (event.defaultPrevented || event.button !== 0 || event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
  const anchor = event.composedPath().find((node) => node instanceof HTMLAnchorElement);
  if (!anchor?.href || anchor.target || anchor.hash || anchor.origin !== location.origin) return;
  if (!isList(anchor.pathname) && !anchor.pathname.startsWith("/tasks/")) return;
  event.preventDefault();
  go(anchor.href);
});
history.scrollRestoration = "manual";
addEventListener("popstate", () => {
  show();
  restore();
});
addEventListener("titled", ({ detail }) => {
  heading = detail;
  title();
});
store.listen(title);
show();
