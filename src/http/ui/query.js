// The filters of the list and their place in the URL. Pure.
import { STATUSES } from "./store.js";

export const LIMITS = [20, 50, 100, 200];
const CHIPS = ["kind", "queue", "owner", "label", "parent", "created_after", "created_before", "finished_after", "finished_before"];
const LIVE = ["status", "kind", "queue", "owner", "parent"];

/** The part of a page's query that is ours and means something. */
export function parse(search) {
  const given = new URLSearchParams(search);
  const params = new URLSearchParams();
  const status = STATUSES.filter((name) => (given.get("status") ?? "").split(",").includes(name));
  if (status.length) params.set("status", status.join(","));
  for (const name of ["q", ...CHIPS]) for (const value of given.getAll(name)) if (value.trim()) params.append(name, value);
  if (given.get("order") === "asc") params.set("order", "asc");
  if (LIMITS.includes(Number(given.get("limit")))) params.set("limit", given.get("limit"));
  if (given.get("cursor")) params.set("cursor", given.get("cursor"));
  return params;
}

/** A copy with one name set, or gone; another filter means the first page. */
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
export const isFiltered = (params) => ["status", "q", ...CHIPS].some((name) => params.has(name));
export const chips = (params) => [...params].filter(([name]) => CHIPS.includes(name));
export const without = (params, name, value) => {
  const next = new URLSearchParams([...params].filter(([n, v]) => !(n === name && v === value)));
  next.delete("cursor");
  return next;
};
export const url = (params) => (params.size ? `/?${params.toString().replaceAll("%2C", ",")}` : "/");

/** The live subscription: at least everything that the list could show. Words and labels are left to the server's page. */
export const subscription = (params) => Object.fromEntries(LIVE.filter((name) => params.has(name)).map((name) => [name, params.get(name)]));
