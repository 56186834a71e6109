// What the pages show of JSON and of texts, without a browser.
import assert from "node:assert/strict";
import { test } from "node:test";
import { readJson, writeJson } from "../../src/http/ui/json.js";
import { visible } from "../../src/http/ui/visible.js";

const NUMBERS = ["0", "-0", "1.0", "1.50", "1E5", "1e400", "0.1000000000000000055", "9007199254740993", "123456789012345678901234567890"];

test("the numbers of an input, a result and an event's data are shown as they stand in the answer", () => {
  for (const name of ["input", "result", "data"]) {
    const { [name]: value } = readJson(`{"${name}":{"n":[${NUMBERS}]}}`);
    assert.equal(writeJson(value), `{\n  "n": [\n    ${NUMBERS.join(",\n    ")}\n  ]\n}`);
  }
  assert.deepEqual(readJson('{"revision":3,"progress":{"fraction":1.0}}'), { revision: 3, progress: { fraction: 1 } });
});

test("JSON is read as JSON.parse reads it, or refused as it refuses it", () => {
  const good = ['{"a":[1,-2.5e3,true,false,null,"\\u00e9\\\\\\"\\n"],"b":{},"a":2}', " [ ] ", '"\\\\"', "\t\r\n0 ", '{"__proto__":{"x":1}}'];
  for (const text of good) assert.deepEqual(readJson(text), JSON.parse(text), text);
  for (const text of ["", "01", "1.", "+1", "NaN", "1 2", "[1,]", "{,}", '{"a":1,}', "[1", '"\n"', '"\\x"', '"', '"\\"', "tru", "[1}", "\u00a01"]) {
    assert.throws(() => JSON.parse(text), SyntaxError, text);
    assert.throws(() => readJson(text), SyntaxError, text);
  }
});

test("JSON is written as JSON.stringify writes it", () => {
  const value = { a: ["b\n\"", true, null, [], {}, [[1]]], __proto__: null, "ü": { "": "" } };
  assert.equal(writeJson(value), JSON.stringify(value, null, 2));
});

test("what can't be seen is a mark, and an escape in JSON", () => {
  const marks = { "\u202e": "⟨U+202E⟩", "\u2066": "⟨U+2066⟩", "\u200f": "⟨U+200F⟩", "\u061c": "⟨U+061C⟩", "\u0007": "⟨U+0007⟩", "\u007f": "⟨U+007F⟩", "\u0085": "⟨U+0085⟩", "\u2028": "⟨U+2028⟩" };
  for (const [hidden, mark] of Object.entries(marks)) assert.equal(visible(`a${hidden}b${hidden}`), `a${mark}b${mark}`);
  assert.equal(visible("tabs\tand\nlines, שלום, 👩\u200d💻"), "tabs\tand\nlines, שלום, 👩\u200d💻");
  const value = { ["\u202ekey"]: "\u2069\u007f\u0007" };
  assert.equal(writeJson(value), '{\n  "\\u202ekey": "\\u2069\\u007f\\u0007"\n}');
  assert.deepEqual(JSON.parse(writeJson(value)), value);
});
