// Shows the view for the address, and changes between views without a page load, so that the websocket stays open.
import "./account.js";
import "./address.js";
import { api, store } from "./api.js";
import { ROOT } from "./base.js";
import "./bell.js";
import { h } from "./dom.js";
import { number } from "./format.js";
import * as query from "./query.js";
import "./sign-in.js";
import "./task.js";
import "./tasks.js";
import { visible } from "./visible.js";

const main = document.querySelector("main");
const isList = (path) => path === ROOT;
let shownView = null;
let heading = "Tasks";
let isSignedOut = false;

function updateTitle() {
  const running = store.state.counts?.running;
  document.title = `${running ? `(${number(running)}) ` : ""}${visible(heading)} – Taskbell`;
}

function showRoute() {
  if (isSignedOut) return;
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

/** The first answer 401 replaces the view by the form to sign in. The address stays, and the view comes back after it. */
async function showSignIn() {
  if (isSignedOut) return;
  isSignedOut = true;
  const wasSignedIn = store.state.counts !== null;
  store.stop();
  // The refusal has cleared a cookie that was not valid, perhaps that of another server on this host. Some servers need none.
  if (await api.session().catch(() => null)) return location.reload();
  document.querySelector("taskbell-bell").remove();
  document.querySelector("taskbell-account").remove();
  heading = "Sign in";
  updateTitle();
  main.replaceChildren(h("taskbell-sign-in", { reason: wasSignedIn ? "Your session has ended." : "This server needs to know who you are." }));
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
addEventListener("taskbell:unauthenticated", showSignIn);
showRoute();
