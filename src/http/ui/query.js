// The filters of the list as the query of the URL. Pure functions.
import { ROOT } from "./base.js";
import { STATUSES } from "./store.js";

export const LIMITS = [20, 50, 100, 200];
/** The `owner` that means everyone. */
export const EVERYONE = "*";
/** Filters that the page shows as chips. */
const CHIP_FIELDS = ["kind", "queue", "owner", "label", "parent", "created_after", "created_before", "finished_after", "finished_before"];
/** Filters that the websocket subscription uses. */
const SUBSCRIPTION_FIELDS = ["status", "kind", "queue", "owner", "parent"];

/** Whose tasks the page's query names: one owner, or everyone. Null for the caller's default. Several owners have no bell, so they are dropped. */
export function owner(search) {
  const given = new URLSearchParams(search).get("owner");
  return given?.trim() && !given.includes(",") ? given : null;
}

/** The address with this owner, unless it names one. */
export function withOwner(address, owner) {
  const [path, search = ""] = address.split("?");
  const params = new URLSearchParams(search);
  if (owner !== null && !params.has("owner")) params.set("owner", owner);
  return params.size ? `${path}?${params.toString().replaceAll("%2C", ",")}` : path;
}

/** The valid fields of the page's query; others are dropped. */
export function parse(search) {
  const given = new URLSearchParams(search);
  const params = new URLSearchParams();
  const status = STATUSES.filter((name) => (given.get("status") ?? "").split(",").includes(name));
  if (status.length) params.set("status", status.join(","));
  for (const name of ["q", ...CHIP_FIELDS]) for (const value of given.getAll(name)) if (value.trim() && name !== "owner") params.append(name, value);
  if (owner(search) !== null) params.set("owner", owner(search));
  if (given.get("order") === "asc") params.set("order", "asc");
  if (LIMITS.includes(Number(given.get("limit")))) params.set("limit", given.get("limit"));
  if (given.get("cursor")) params.set("cursor", given.get("cursor"));
  return params;
}

/** Returns a copy with one field set, or removed if `value` is null or empty. The copy has no cursor, so it shows the first page. */
export function change(params, name, value) {
  const next = new URLSearchParams(params);
  next.delete("cursor");
  if (value === null || value === "") next.delete(name);
  else next.set(name, value);
  return next;
}

export const statuses = (params) => new Set((params.get("status") ?? "").split(",").filter(Boolean));
export const toggleStatus = (params, name, on) => {
  const chosen = statuses(params);
  if (on) chosen.add(name);
  else chosen.delete(name);
  return change(params, "status", STATUSES.filter((status) => chosen.has(status)).join(","));
};
/** Whether the list leaves out tasks of the owner whose tasks it shows. */
export const isFiltered = (params) => ["status", "q", ...CHIP_FIELDS].some((name) => name !== "owner" && params.has(name));
export const chips = (params) => [...params].filter(([name]) => CHIP_FIELDS.includes(name));
export const without = (params, name, value) => {
  const next = new URLSearchParams([...params].filter(([n, v]) => !(n === name && v === value)));
  next.delete("cursor");
  return next;
};
export const url = (params) => (params.size ? `${ROOT}?${params.toString().replaceAll("%2C", ",")}` : ROOT);

/**
 * The filter of the websocket subscription. It matches at least all tasks that the list can show. It leaves out the search words,
 * the labels and the times: only the page from the server applies them.
 */
export const subscription = (params) => Object.fromEntries(SUBSCRIPTION_FIELDS.filter((name) => params.has(name)).map((name) => [name, params.get(name)]));
