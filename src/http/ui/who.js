// Who the caller is, and whose tasks the caller may choose to see.
import { api } from "./api.js";
import { EVERYONE } from "./query.js";

let reading = null;

/** The caller: {subject, role, default_owner, may_see_everyone, credential, …}. `default_owner` is whose tasks an address without `owner` means. */
export function who() {
  reading ??= api.session().catch((error) => {
    reading = null;
    throw error;
  });
  return reading;
}

export const maySeeEveryone = (caller) => caller?.may_see_everyone === true;

/** What the address's `owner` chooses: "mine", "everyone", or null if it is another owner, or if the caller isn't known yet. */
export function choiceOf(owner, caller) {
  const shown = owner ?? caller?.default_owner ?? null;
  if (shown === EVERYONE) return "everyone";
  return caller && shown === caller.subject ? "mine" : null;
}

/** The address's `owner` for this choice; null where an address without it means the same. */
export function ownerFor(choice, caller) {
  const owner = choice === "everyone" ? EVERYONE : caller.subject;
  return owner === caller.default_owner ? null : owner;
}
