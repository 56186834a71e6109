// JSON for people: what `JSON.parse` would round stands on the page as it stands in the server's answer. Pure functions.
import { visibleJson } from "./visible.js";

/** The members of an answer whose numbers are shown and never calculated with. */
const PAYLOADS = new Set(["input", "result", "data"]);
const NUMBER = /-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?/y;
const SPACE = /[ \t\n\r]*/y;
const CONSTANTS = { t: true, f: false, n: null };

/** A number of a payload, as its text. */
export class NumberText {
  constructor(source) {
    this.source = source;
  }

  toString() {
    return this.source;
  }
}

/** The value of the text; each number of a payload is a `NumberText`. Throws where the text isn't JSON. */
export function readJson(text) {
  const reader = new Reader(text);
  const value = reader.value(false);
  reader.end();
  return value;
}

/** The value as JSON text over several lines, without a character that could change how it reads. */
export const writeJson = (value) => visibleJson(write(value, "\n"));

class Reader {
  #text;
  #at = 0;

  constructor(text) {
    this.#text = text;
  }

  value(isPayload) {
    this.#skip(SPACE);
    const first = this.#text[this.#at] ?? "";
    if (first === "{") return this.#object(isPayload);
    if (first === "[") return this.#array(isPayload);
    if (first === '"') return this.#string();
    if (Object.hasOwn(CONSTANTS, first)) return this.#expect(String(CONSTANTS[first])), CONSTANTS[first];
    const source = this.#skip(NUMBER);
    if (source === "") this.#fail();
    return isPayload ? new NumberText(source) : Number(source);
  }

  end() {
    this.#skip(SPACE);
    if (this.#at < this.#text.length) this.#fail();
  }

  #object(isPayload) {
    const object = {};
    this.#each("}", () => {
      this.#skip(SPACE);
      const name = this.#string();
      this.#skip(SPACE);
      this.#expect(":");
      const value = this.value(isPayload || PAYLOADS.has(name));
      // `__proto__` is a name like any other.
      Object.defineProperty(object, name, { value, writable: true, enumerable: true, configurable: true });
    });
    return object;
  }

  #array(isPayload) {
    const items = [];
    this.#each("]", () => items.push(this.value(isPayload)));
    return items;
  }

  /** Reads parts with commas between them, from the opening bracket to the closing one. */
  #each(close, readPart) {
    this.#at += 1;
    this.#skip(SPACE);
    for (let isFirst = true; this.#text[this.#at] !== close; isFirst = false) {
      if (!isFirst) this.#expect(",");
      readPart();
      this.#skip(SPACE);
    }
    this.#at += 1;
  }

  #string() {
    const start = this.#at;
    this.#expect('"');
    let end = this.#text.indexOf('"', start + 1);
    while (end > 0 && this.#isEscaped(end)) end = this.#text.indexOf('"', end + 1);
    if (end < 0) this.#fail();
    this.#at = end + 1;
    return JSON.parse(this.#text.slice(start, end + 1));
  }

  /** Whether an odd number of backslashes stands before this place. */
  #isEscaped(at) {
    let first = at;
    while (this.#text[first - 1] === "\\") first -= 1;
    return (at - first) % 2 === 1;
  }

  #expect(word) {
    if (!this.#text.startsWith(word, this.#at)) this.#fail();
    this.#at += word.length;
  }

  #skip(pattern) {
    pattern.lastIndex = this.#at;
    const found = pattern.exec(this.#text)?.[0] ?? "";
    this.#at += found.length;
    return found;
  }

  #fail() {
    throw new SyntaxError(`no JSON at character ${this.#at}`);
  }
}

/** `line`: a line break and the indentation of the value. */
function write(value, line) {
  if (value instanceof NumberText) return value.source;
  if (typeof value !== "object" || value === null) return JSON.stringify(value);
  const inner = `${line}  `;
  const parts = Array.isArray(value)
    ? value.map((item) => write(item, inner))
    : Object.entries(value).map(([name, member]) => `${JSON.stringify(name)}: ${write(member, inner)}`);
  const [open, close] = Array.isArray(value) ? "[]" : "{}";
  return parts.length ? `${open}${inner}${parts.join(`,${inner}`)}${line}${close}` : open + close;
}
