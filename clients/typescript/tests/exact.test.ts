// Numbers stay as they were written, on their way from an input through a handler to a result.
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { Client, ExactNumber, type Handler, Worker } from "taskbell";
import { fromJson, toJson } from "../src/exact.js";
import { FakeServer, FINISH, lease, LEASES, ok } from "./fake.js";
import { Server } from "./server.js";

/** Texts of numbers, most of which a double would write in another way. */
const NUMBERS = [
  ...["0", "-0", "1", "-7", "1.0", "1.50", "-0.0", "0.1000000000000000055", "1E5", "1e5", "1e+05", "1e400", "-1e400"],
  ...["1e-400", "9007199254740992", "9007199254740993", "-18446744073709551616", "123456789012345678901234567890"],
  "9".repeat(5_000),
];
const TEXT = `{"n":[${NUMBERS}],"__proto__":{"x":1.50},"":"1.50"}`;

/** The text of the result that a worker sends for an input with this text. */
async function resultOf(handler: Handler, text: string): Promise<string> {
  const fake = await FakeServer.start();
  const marked = ok({ leases: [{ ...lease(0), input: "INPUT" }], position: 1 });
  fake.instead[LEASES] = [{ ...marked, body: marked.body.replace('"INPUT"', () => text) }];
  const options = { client: new Client({ server: fake.url }), waitMs: 1_000, signals: false, log: () => {} };
  const worker = new Worker({ test: handler }, options);
  const running = worker.run();
  await fake.until(() => fake.ends().length > 0);
  worker.stop();
  fake.hurry();
  await running;
  fake.close();
  const sent = fake.asked.find(({ path }) => path === FINISH)!.text;
  return sent.slice(sent.indexOf('"result":') + '"result":'.length, -"}]}".length);
}

describe("a handler", () => {
  test("that returns its input as its result returns the same text", async () => {
    assert.equal(await resultOf(({ input }) => ({ result: input }), TEXT), TEXT);
  });

  test("may return a part of it in another value", async () => {
    const handler: Handler = ({ input }) => ({ result: [input.a, { ...input, c: input.b }] });
    assert.equal(await resultOf(handler, '{"a":1.50,"b":1e400}'), '[1.50,{"a":1.50,"b":1e400,"c":1e400}]');
  });

  test("calculates with the numbers, and never by accident with rounded integers", async () => {
    const handler: Handler = ({ input: [a, b, n, m] }) => {
      assert.throws(() => n + 1, TypeError);
      return { result: [a + b, a * 2, Math.floor(a), a < 2, Number(a) === 1.5, a.toFixed(1), n + 1n, m + 1] };
    };
    const text = await resultOf(handler, "[1.50,2.5,123456789012345678901234567890,7]");
    assert.equal(text, '[4,3,1,true,true,"1.5",123456789012345678901234567891,8]');
  });

  test("sees names like __proto__ as members and no more", async () => {
    const handler: Handler = ({ input }) => ({ result: [Object.keys(input), input.polluted ?? null] });
    assert.equal(await resultOf(handler, '{"__proto__":{"polluted":1}}'), '[["__proto__"],null]');
  });
});

describe("json", () => {
  test("a task's own numbers are plain, those of its input and its result are as they were written", () => {
    const task = fromJson('{"revision":1.0,"progress":{"fraction":1.0},"input":1.50,"leases":[{"input":[1.0]}]}');
    assert.deepEqual([task.revision, task.progress.fraction], [1, 1]);
    assert.deepEqual([toJson(task.input), toJson(task.leases[0].input)], ["1.50", "[1.0]"]);
    assert.equal(typeof fromJson('{"input":2.5}').input, "number");
    assert.equal(typeof fromJson('{"input":9007199254740992}').input, "bigint");
  });

  test("texts are read as JSON.parse reads them, or refused as it refuses them", () => {
    const good = [
      '{"a":[1,2.5,true,false,null,"é\\u00e9\\ud83d\\ude00\\\\\\"\\n"],"b":{}}',
      ...[" [ ] ", '"\\\\"', '{"a":1,"a":2}', "-1e-7", "\t\r\n0 "],
    ];
    for (const text of good) assert.deepEqual(fromJson(text), JSON.parse(text), text);
    const bad = [
      ...["", "01", "1.", ".5", "+1", "NaN", "-", "1 2", "[1,]", "{,}", '{"a":1,}', "{a:1}", "[1", "tru", "nul", "[1}"],
      ...['"\n"', '"\\x"', '"', '"\\"', '{"a"}', "\ufeff1", "\u00a01"],
    ];
    for (const text of bad) {
      assert.throws(() => JSON.parse(text), SyntaxError, text);
      assert.throws(() => fromJson(text), SyntaxError, text);
    }
  });

  test("values are written as JSON.stringify writes them", () => {
    const date = new Date(0);
    const sparse = [1, , 3];
    const value = {
      ...{ a: [1, -2.5, 1e22, -0, true, null, undefined, () => 1], b: undefined, c: date, d: '\ud800\u2028"' },
      ...{ e: [sparse, Object("x"), Object(false), Object(2)], 1: {}, [Symbol()]: 1, m: new Map([[1, 2]]) },
    };
    assert.equal(toJson(value), JSON.stringify(value));
  });

  test("what JSON has no words for is refused, and an object never passes for a number", () => {
    const inside: unknown[] = [];
    inside.push(inside);
    for (const value of [NaN, [-Infinity], inside]) assert.throws(() => toJson(value), TypeError);
    for (const source of ["NaN", "1.", "1\n", " 1", "", "1,2"]) {
      assert.throws(() => new ExactNumber(source), SyntaxError, source);
    }
    const twice = [1];
    assert.equal(toJson([twice, twice]), "[[1],[1]]");
    for (const text of ['{"source":"1.5"}', '{"isLosslessNumber":true}', '{"rawJSON":"1"}', '{"toJSON":1}']) {
      assert.equal(toJson(fromJson(`{"input":${text}}`)), `{"input":${text}}`);
    }
  });
});

test("numbers are the same from the submit to the result", async () => {
  const server = await Server.start();
  const { client } = server;
  const echo: Handler = ({ input }) => ({ result: input });
  const worker = new Worker({ "test.exact": echo }, { client, waitMs: 200, signals: false });
  const running = worker.run();
  try {
    const { input } = fromJson(`{"input":${TEXT}}`);
    const { id } = await client.submit("test.exact", input);
    const task = await client.wait(id, { signal: AbortSignal.timeout(20_000) });
    assert.deepEqual([task.status, toJson(task.input), toJson(task.result)], ["succeeded", TEXT, TEXT]);
  } finally {
    worker.stop();
    await running;
    await server.close();
  }
});
