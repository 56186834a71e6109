// Where the server's routes begin: at the root of its host, or below the prefix under which a proxy offers them.
const url = new URL("../", import.meta.url);

/** The address of the server, with a slash at its end. */
export const BASE = url.protocol === "file:" ? new URL("/", url) : url;
/** The path of `BASE`: "/" or like "/taskbell/". */
export const ROOT = BASE.pathname;
