// The HTTP requests of the UI, and the store that all elements of a page share.
import { BASE } from "./base.js";
import { readJson } from "./json.js";
import { Store } from "./store.js";

/** The problem document (RFC 9457) of a refused request, or the failure of the network. */
export class Problem extends Error {
  constructor(status, { code = "unknown", title = "Something went wrong", detail = null } = {}) {
    super(detail ?? title);
    Object.assign(this, { status, code });
  }
}

/** The function that gives the bearer of the user; null on the server's own page, which has a cookie. */
let readBearer = null;

/** For a page of another origin: `read()` returns, perhaps in a promise, the bearer that the page's back end has got for its user. */
export function useBearer(read) {
  readBearer = read;
}

/** `bearer` replaces the credential of the page. Without it, an answer 401 is announced by the event `taskbell:unauthenticated`. */
async function call(method, path, { body, signal, bearer } = {}) {
  const timeout = AbortSignal.timeout(15_000);
  const init = { method, signal: signal ? AbortSignal.any([signal, timeout]) : timeout, headers: { accept: "application/json" } };
  const credential = bearer ?? (await readBearer?.());
  if (credential) init.headers.authorization = `Bearer ${credential}`;
  if (body !== undefined) Object.assign(init, { body: JSON.stringify(body), headers: { ...init.headers, "content-type": "application/json" } });
  let response, text;
  try {
    response = await fetch(new URL(path, BASE), init);
    text = await response.text();
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new Problem(0, { code: "unreachable", detail: "The server can't be reached." });
  }
  let json = null;
  try {
    json = text ? readJson(text) : null;
  } catch {
    throw new Problem(response.status, { title: `The server answered ${response.status}, not in JSON.` });
  }
  if (response.status === 401 && !bearer) dispatchEvent(new Event("taskbell:unauthenticated"));
  if (!response.ok) throw new Problem(response.status, json ?? {});
  return json;
}

const task = (id) => `v1/tasks/${encodeURIComponent(id)}`;

export const api = {
  list: (params, signal) => call("GET", `v1/tasks?${new URLSearchParams(params)}`, { signal }),
  get: (id, signal) => call("GET", task(id), { signal }),
  events: (id, signal) => call("GET", `${task(id)}/events`, { signal }),
  cancel: (id) => call("POST", `${task(id)}/cancel`, { body: {} }),
  escalate: (id, rung) => call("POST", `${task(id)}/escalate`, { body: { rung } }),
  retry: (id) => call("POST", `${task(id)}/retry`, { body: {} }),
  session: () => call("GET", "v1/session"),
  signIn: (token) => call("POST", "v1/session", { bearer: token }),
  signOut: () => call("DELETE", "v1/session"),
  seen: (position) => call("POST", "v1/bell/seen", { body: { position } }),
};

/** A websocket is closed with this code when its credential has ended. The next one may be accepted: a proxy that authenticates names the caller again. */
const POLICY = 1008;

/** Opens the websocket with the bell of this owner; null for the caller's default. `handlers`: {open, text, close}. */
function connect(handlers, owner) {
  const url = new URL("v1/live", BASE);
  if (owner !== null) url.searchParams.set("owner", owner);
  url.protocol = url.protocol.replace("http", "ws");
  let socket = null;
  let isOpen = false;
  let isClosed = false;
  const open = () => {
    if (isClosed) return;
    socket = new WebSocket(url);
    socket.onopen = () => {
      isOpen = true;
      handlers.open();
    };
    socket.onmessage = ({ data }) => handlers.text(data);
    socket.onclose = ({ code }) => {
      handlers.close(code === POLICY);
      // A browser doesn't tell why a websocket was refused. The session tells whether the credential was the reason.
      if (code === POLICY || (!isOpen && !isClosed)) api.session().catch(() => {});
    };
  };
  const useTicket = ({ ticket }) => {
    url.searchParams.set("ticket", ticket);
    open();
  };
  // A browser can't send a bearer with a websocket.
  if (readBearer) call("POST", "v1/tickets").then(useTicket, () => handlers.close());
  else open();
  const close = () => {
    isClosed = true;
    socket?.close();
  };
  return { send: (text) => socket?.readyState === WebSocket.OPEN && socket.send(text), close };
}

/** Calls `f` after `ms`, and returns a function that cancels the call. */
function after(ms, f) {
  const timer = setTimeout(f, ms);
  return () => clearTimeout(timer);
}

export const store = new Store({ connect, after, now: () => Date.now(), random: () => Math.random() });
addEventListener("online", () => store.wake());
addEventListener("pageshow", ({ persisted }) => persisted && store.wake());
document.addEventListener("visibilitychange", () => document.visibilityState === "visible" && store.wake());
