/**
 * JSON whose numbers stay as they were written: `1.50` is not sent back as `1.5`, nor `1e400` as null.
 *
 * In an input or a result, an integer beyond 2^53 is a bigint, a number whose text a plain number would change is an
 * `ExactNumber`, and all others are plain numbers. What stands around them is read as `JSON.parse` reads it.
 */

/** The members of the server's answers whose values come from people. */
const PAYLOADS: ReadonlySet<string> = new Set(["input", "result"]);
const NUMBER = /-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?/y;
const SPACE = /[ \t\n\r]*/y;
const CONSTANTS = new Map<string, true | false | null>([
  ["t", true],
  ["f", false],
  ["n", null],
]);

/**
 * A number from JSON, with its text in `source`. Calculates and compares like its rounded value, except that `===` and
 * `typeof` see an object: `Number(n)` makes any number of an input a plain one.
 */
export class ExactNumber extends Number {
  constructor(readonly source: string) {
    if (source === "" || matched(NUMBER, source, 0) !== source) {
      throw new SyntaxError(`not a number of JSON: ${source.slice(0, 40)}`);
    }
    super(source);
  }

  override toString(radix?: number): string {
    return radix === undefined ? this.source : super.toString(radix);
  }
}

/** What the text says. Throws where it is no JSON. A name that comes twice has its last value. */
export function fromJson(text: string): any {
  const reader = new Reader(text);
  const value = reader.value(false);
  reader.end();
  return value;
}

/**
 * As it is sent: like `JSON.stringify`, with bigints and exact numbers. Throws for what JSON has no words for (NaN, a
 * value inside itself).
 */
export function toJson(value: unknown): string {
  return written(value, "", new Set()) ?? "null";
}

class Reader {
  #at = 0;

  constructor(readonly text: string) {}

  /** The value that comes next. `exact`: whether its numbers keep their text. */
  value(exact: boolean): unknown {
    this.#skip(SPACE);
    const first = this.text[this.#at] ?? "";
    if (first === "{") return this.#object(exact);
    if (first === "[") return this.#array(exact);
    if (first === '"') return this.#string();
    const constant = CONSTANTS.get(first);
    if (constant !== undefined) return this.#expect(String(constant)), constant;
    const source = this.#skip(NUMBER);
    if (source === "") this.#fail();
    return exact ? numberOf(source) : Number(source);
  }

  end(): void {
    this.#skip(SPACE);
    if (this.#at < this.text.length) this.#fail();
  }

  #object(exact: boolean): unknown {
    const object: Record<string, unknown> = {};
    this.#each("}", () => {
      this.#skip(SPACE);
      const name = this.#string();
      this.#skip(SPACE);
      this.#expect(":");
      setOwn(object, name, this.value(exact || PAYLOADS.has(name)));
    });
    return object;
  }

  #array(exact: boolean): unknown {
    const items: unknown[] = [];
    this.#each("]", () => items.push(this.value(exact)));
    return items;
  }

  /** Reads parts with commas between them, from the opening bracket to the closing one. */
  #each(close: string, part: () => void): void {
    this.#at += 1;
    this.#skip(SPACE);
    for (let first = true; this.text[this.#at] !== close; first = false) {
      if (!first) this.#expect(",");
      part();
      this.#skip(SPACE);
    }
    this.#at += 1;
  }

  #string(): string {
    const start = this.#at;
    this.#expect('"');
    let end = this.text.indexOf('"', start + 1);
    while (end > 0 && this.#isEscaped(end)) end = this.text.indexOf('"', end + 1);
    if (end < 0) this.#fail();
    this.#at = end + 1;
    return JSON.parse(this.text.slice(start, end + 1));
  }

  /** Whether an odd number of backslashes stands before this place. */
  #isEscaped(at: number): boolean {
    let first = at;
    while (this.text[first - 1] === "\\") first -= 1;
    return (at - first) % 2 === 1;
  }

  #expect(word: string): void {
    if (!this.text.startsWith(word, this.#at)) this.#fail();
    this.#at += word.length;
  }

  #skip(pattern: RegExp): string {
    const found = matched(pattern, this.text, this.#at);
    this.#at += found.length;
    return found;
  }

  #fail(): never {
    throw new SyntaxError(`no JSON at character ${this.#at}`);
  }
}

/** What the sticky pattern finds at this place; empty where it finds nothing. */
function matched(pattern: RegExp, text: string, at: number): string {
  pattern.lastIndex = at;
  return pattern.exec(text)?.[0] ?? "";
}

function numberOf(source: string): number | bigint | ExactNumber {
  const value = Number(source);
  if (/^-?[1-9]\d*$/.test(source)) return Number.isSafeInteger(value) ? value : BigInt(source);
  return String(value) === source ? value : new ExactNumber(source);
}

/** `__proto__` is a name like any other. */
function setOwn(object: Record<string, unknown>, name: string, value: unknown): void {
  if (name !== "__proto__") object[name] = value;
  else Object.defineProperty(object, name, { value, writable: true, enumerable: true, configurable: true });
}

/** Undefined for what `JSON.stringify` leaves out. */
function written(given: any, name: string, around: Set<object>): string | undefined {
  const value = typeof given?.toJSON === "function" ? given.toJSON(name) : given;
  if (value instanceof ExactNumber) return value.source;
  if (typeof value === "bigint") return String(value);
  if (typeof value === "number" || value instanceof Number) return finite(Number(value));
  if (typeof value !== "object" || value === null || value instanceof String || value instanceof Boolean) {
    return JSON.stringify(value);
  }
  if (around.has(value)) throw new TypeError("the value is part of itself");
  around.add(value);
  const text = Array.isArray(value) ? array(value, around) : object(value, around);
  around.delete(value);
  return text;
}

function finite(value: number): string {
  if (!Number.isFinite(value)) throw new TypeError(`${value} is no number of JSON`);
  return JSON.stringify(value);
}

const array = (items: unknown[], around: Set<object>) =>
  `[${Array.from(items, (item, place) => written(item, String(place), around) ?? "null").join(",")}]`;

function object(value: object, around: Set<object>): string {
  const members = Object.entries(value).map(([name, member]) => [JSON.stringify(name), written(member, name, around)]);
  return `{${members.flatMap(([name, text]) => (text === undefined ? [] : [`${name}:${text}`])).join(",")}}`;
}
