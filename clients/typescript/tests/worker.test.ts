// The worker against a server that does what the test wants.
import assert from "node:assert/strict";
import { afterEach, beforeEach, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { Cancelled, Client, Failure, type Handler, LeaseLost, Problem, Released, Unreachable, Worker } from "taskbell";
import { ACK, type Answer, BEAT, FakeServer, FINISH, lease, LEASES, ok, problem } from "./fake.js";

let fake: FakeServer;
let worker: Worker;
let running: Promise<unknown>;

beforeEach(async () => {
  fake = await FakeServer.start();
});

afterEach(async () => {
  worker.stop();
  fake.hurry();
  await running;
  fake.close();
});

function work(
  handler: Handler,
  { leases = 1, leftMs = 30_000, concurrency = 4, graceMs = 5_000 } = {},
): void {
  fake.toLease = Array.from({ length: leases }, (_, number) => ({ ...lease(number), left_ms: leftMs }));
  const client = new Client({ server: fake.url });
  const options = { client, concurrency, graceMs, waitMs: 1_000, signals: false, log: () => {} };
  worker = new Worker({ test: handler }, options);
  running = worker.run().catch((error: unknown) => error);
}

async function ended(count = 1): Promise<any[]> {
  await fake.until(() => fake.ends().length >= count);
  return fake.ends();
}

const beaten = () => fake.until(() => fake.of(BEAT).length > 0);
const seen = (directive: string) =>
  fake.until(() => fake.of(BEAT).some((body) => body.leases.some((held: any) => held.seen === directive)));

describe("ends", () => {
  test("what is done is told with its message and result", async () => {
    work(() => ({ message: "two\nlines", result: { n: 1 } }));
    const said = { outcome: "succeeded", message: "two lines", result: { n: 1 } };
    assert.deepEqual(await ended(), [{ lease: lease(0).lease, ...said }]);
  });

  test("each way to end has its outcome", async () => {
    const thrown = [
      new Failure("no_disk", "the disk\0is full", { retryable: false }),
      new TypeError("no number"),
      new Cancelled("2 of 3", 2),
      new Released(),
    ];
    work((ctx) => {
      const error = thrown[Number(ctx.taskId.slice(5))];
      if (error) throw error;
      return { result: NaN };
    }, { leases: 5, concurrency: 1 });
    const ends = (await ended(5)).map(({ lease: _, ...said }) => said);
    assert.deepEqual(ends.slice(0, 4), [
      { outcome: "failed", error: { code: "no_disk", message: "the disk is full" }, retryable: false },
      { outcome: "failed", error: { code: "exception", message: "TypeError: no number" }, retryable: true },
      { outcome: "cancelled", message: "2 of 3", result: 2 },
      { outcome: "released" },
    ]);
    assert.equal(ends[4].error.code, "invalid_result");
  });

  test("a finish is repeated until it is answered", async () => {
    fake.instead[FINISH] = [null, problem(503, "busy", true), { status: 200, body: "<html>" }, ok({ items: [{}] })];
    work(() => {});
    assert.deepEqual((await ended(5)).map((end) => end.outcome), Array(5).fill("succeeded"));
  });

  test("an end that spoils its batch is told alone and then as a failure", async () => {
    fake.answer = (path, body) =>
      path === FINISH && body.items.some((item: any) => item.message === "spoilt")
        ? problem(422, "invalid_request")
        : undefined;
    work(async (ctx) => ({ message: ctx.taskId === "task-1" ? "spoilt" : "good" }), { leases: 3 });
    await fake.until(() => fake.ends().some((end) => end.outcome === "failed"));
    const { lease: held, error, retryable } = fake.ends().find((end) => end.outcome === "failed");
    assert.deepEqual([held, error.code, retryable], [lease(1).lease, "invalid_request", false]);
  });

  test("an end that is refused for good becomes a failure", async () => {
    const problem = { status: 500, code: "log_damaged", detail: "", retryable: false };
    fake.instead[FINISH] = [ok({ items: [{ problem }] })];
    work(() => {});
    assert.deepEqual((await ended(2)).map((end) => end.outcome), ["succeeded", "failed"]);
  });

  test("an end that the server can't take just now is told again, a late one is let go", async () => {
    const refused = (status: number, code: string, retryable: boolean) =>
      ok({ items: [{ problem: { status, code, detail: "", retryable } }] });
    fake.instead[FINISH] = [refused(503, "busy", true), refused(409, "lease_lost", false)];
    work(() => {});
    assert.equal((await ended(2)).length, 2);
    worker.stop();
    await running;
    assert.equal(fake.ends().length, 2);
  });
});

describe("directives", () => {
  test("a cancel aborts the signal, and is acknowledged when the handler looks", async () => {
    work(async (ctx) => {
      await sleep(10_000, undefined, { signal: ctx.signal }).catch(() => {});
      ctx.throwIfCancelled();
    });
    await beaten();
    fake.direct(0, "cancel");
    assert.equal((await ended())[0].outcome, "cancelled");
    assert.deepEqual(fake.of(ACK), [{ lease: lease(0).lease }]);
  });

  test("what the signal stopped in other hands ends cancelled", async () => {
    work((ctx) => sleep(10_000, undefined, { signal: ctx.signal }));
    await beaten();
    fake.direct(0, "cancel");
    assert.equal((await ended())[0].outcome, "cancelled");
  });

  test("a cancel during a step is answered with its name at once", async () => {
    let goOn = () => {};
    const gate = new Promise<void>((resolve) => (goOn = resolve));
    work(async (ctx) => {
      await ctx.blocking("writing\nimage", { expectedMs: 20_000 }, () => gate);
      ctx.throwIfCancelled();
    });
    await beaten();
    fake.direct(0, "cancel");
    await fake.until(() => fake.of(ACK).length > 0);
    goOn();
    await ended();
    assert.equal(fake.of(ACK).length, 1);
    assert.equal(fake.of(ACK)[0].stopping_after, "writing image");
    assert.match(fake.of(ACK)[0].expected_end, /^\d{4}-\d\d-\d\dT[\d:.]+Z$/);
  });

  test("a step that begins after an unseen cancel is what the stop waits for", async () => {
    let begin = () => {};
    const gate = new Promise<void>((resolve) => (begin = resolve));
    work(async (ctx) => {
      await gate;
      await ctx.blocking("posting", {}, () => {});
    });
    await beaten();
    fake.direct(0, "cancel");
    await seen("cancel");
    begin();
    assert.equal((await ended())[0].outcome, "succeeded"); // and it may finish first
    assert.deepEqual(fake.of(ACK), [{ lease: lease(0).lease, stopping_after: "posting" }]);
  });

  test("a lost lease stops the handler and nothing is reported", async () => {
    let stopped = (_: unknown) => {};
    const reason = new Promise<unknown>((resolve) => (stopped = resolve));
    work(async (ctx) => {
      await sleep(10_000, undefined, { signal: ctx.signal }).catch(() => {});
      stopped(ctx.signal.reason);
      throw new Failure("late", "nobody wants to know");
    });
    await beaten();
    fake.direct(0, "lost");
    assert.ok((await reason) instanceof LeaseLost);
    worker.stop();
    fake.hurry();
    await running;
    assert.deepEqual([fake.ends(), fake.of(ACK)], [[], []]);
  });

  test("an interrupt aborts the harder signal", async () => {
    work(async (ctx) => {
      await sleep(10_000, undefined, { signal: ctx.interruptSignal }).catch(() => {}); // it ignores the first
      ctx.throwIfCancelled();
    });
    await beaten();
    fake.direct(0, "cancel");
    await seen("cancel");
    fake.direct(0, "interrupt");
    assert.equal((await ended())[0].outcome, "cancelled");
  });

  test("progress is throttled, and the last is told before the end", async () => {
    work(async (ctx) => {
      for (let n = 0; n < 300; n++) {
        ctx.progress(n / 100, `step ${n}`);
        await sleep(1);
      }
    });
    await ended();
    const told = fake.of(BEAT).flatMap((body) => body.leases.map((held: any) => held.progress).filter(Boolean));
    assert.deepEqual(told.at(-1), { fraction: 1, message: "step 299" });
    assert.ok(told.length > 1 && told.length < 20, String(told.length));
  });
});

describe("a worker never believes that it has a lease for longer than the server says", () => {
  const leftMs = 1_000;
  const silence = new Promise<Answer>(() => {});
  const renewed = ok({ directives: [], deadline: null, left_ms: leftMs });

  /** Answers heartbeats, by number from 1. */
  function beats(answer: (number: number) => Answer | Promise<Answer>): void {
    let number = 0;
    fake.answer = (path) => (path === BEAT ? answer(++number) : undefined);
  }

  /** A handler that runs until it is stopped, but not much longer than the lease, and the time when it was. */
  function stopped(): { handler: Handler; at: Promise<number> } {
    let stop = (_: number) => {};
    const at = new Promise<number>((resolve) => (stop = resolve));
    const handler: Handler = async (ctx) => {
      await sleep(5_000, undefined, { signal: ctx.signal }).catch(() => {});
      stop(performance.now());
    };
    return { handler, at };
  }

  test("an attempt whose heartbeats are not answered is lost before its lease ends", async () => {
    beats(() => silence);
    const { handler, at } = stopped();
    const granted = performance.now();
    work(handler, { leftMs });
    const ranMs = (await at) - granted;
    assert.ok(ranMs < leftMs, `it ran for ${ranMs} ms`);
    assert.deepEqual(fake.ends(), []);
  });

  test("a renewal counts from the sending of its heartbeat", async () => {
    let arrived = 0;
    beats(async (number) => {
      if (number > 1) return silence;
      arrived = performance.now();
      await sleep(250); // the answer's way: that it takes time is the point
      return renewed;
    });
    const { handler, at } = stopped();
    work(handler, { leftMs });
    const ranMs = (await at) - arrived;
    assert.ok(ranMs < leftMs + 100, `it ran for ${ranMs} ms after its heartbeat`);
  });

  test("a short lease survives a heartbeat that is never answered", async () => {
    let renew = () => {};
    const second = new Promise<void>((resolve) => (renew = resolve));
    beats((number) => (number === 1 ? silence : (renew(), renewed)));
    work(
      async (ctx) => {
        await Promise.race([second, sleep(5_000)]);
        ctx.throwIfCancelled();
        return { message: "renewed" };
      },
      { leftMs },
    );
    assert.equal((await ended())[0].message, "renewed");
    assert.ok(fake.of(BEAT).length > 1, "no second heartbeat was sent in time");
  });
});

describe("storms", () => {
  test("rubbish answers are asked again", async () => {
    fake.instead[LEASES] = [
      { status: 200, body: "\xff" },
      ok({ leases: [{ lease: 7 }] }),
      ok({ leases: { no: "list" } }),
      null,
    ];
    const rubbish = [{ status: 200, body: "" }, { status: 500, body: "<html>" }];
    fake.instead[BEAT] = [ok({ directives: [null] }), ok(7), ...rubbish];
    work(() => sleep(1_500));
    assert.equal((await ended())[0].outcome, "succeeded");
  });

  test("a refusal of the worker itself ends it", async () => {
    fake.instead[LEASES] = [problem(422, "invalid_request")];
    work(() => {});
    const error = await running;
    assert.ok(error instanceof Problem);
    assert.deepEqual([error.code, error.status, error.name], ["invalid_request", 422, "Problem"]);
  });

  test("a server that does not wait is not flooded", async () => {
    fake.instead[LEASES] = Array.from({ length: 1000 }, () => ok({ leases: [] }));
    work(() => {});
    await sleep(600);
    assert.ok(fake.of(LEASES).length < 5);
  });

  test("a handler that blocks the event loop for long is followed by a heartbeat at once", async (t) => {
    work((ctx) => sleep(10_000, undefined, { signal: ctx.signal }), { graceMs: 100 });
    await beaten();
    const before = fake.of(BEAT).length;
    const now = Date.now;
    t.mock.method(Date, "now", () => now() + 60_000);
    await fake.until(() => fake.of(BEAT).length > before, 2_000);
  });
});

describe("asking", () => {
  beforeEach(() => work(() => {}, { leases: 0 }));

  const path = "/v1/tasks/x";
  const task = { id: "x", status: "queued", revision: 0, position: 1 };

  test("a call without an answer is repeated, as late as the server asks for", async () => {
    fake.instead[path] = [null, problem(503, "busy", true, { "retry-after": "1" }), problem(500, "internal", true), ok(task)];
    const began = Date.now();
    assert.equal((await new Client({ server: fake.url }).get("x")).id, "x");
    assert.ok(Date.now() - began >= 1_000);
  });

  test("and until the caller's patience ends", async () => {
    fake.instead[path] = Array.from({ length: 99 }, () => problem(503, "busy", true));
    const refused = await new Client({ server: fake.url, patienceMs: 300 }).get("x").catch((error: unknown) => error);
    assert.ok(refused instanceof Problem && refused.code === "busy");
    fake.instead[path] = [{ status: 200, body: "{}" }];
    await assert.rejects(new Client({ server: fake.url, patienceMs: 0 }).get("x"), Unreachable);
  });

  test("a position that the log has not reached is said to be so, once", async () => {
    fake.instead[path + "?min_position=7"] = [problem(503, "behind", true, { "retry-after": "1" })];
    const behind = await new Client({ server: fake.url }).get("x", { minPosition: 7 }).catch((error: unknown) => error);
    assert.ok(behind instanceof Problem && behind.code === "behind");
  });
});

describe("drain", () => {
  test("what runs may finish", async () => {
    work(async (ctx) => {
      while (!ctx.draining) await sleep(10);
      return { message: "just in time" };
    });
    await beaten();
    worker.stop();
    await running;
    assert.equal(fake.ends()[0].message, "just in time");
  });

  test("what does not is handed back after the grace", async () => {
    let over = () => {};
    const gate = new Promise<void>((resolve) => (over = resolve));
    work(() => gate, { graceMs: 200 });
    await beaten();
    worker.stop();
    fake.hurry();
    await running;
    over();
    assert.deepEqual(fake.ends().map((end) => end.outcome), ["released"]);
  });

  test("a lease that arrives late is handed back and not begun", async () => {
    let begun = false;
    work(() => void (begun = true), { leases: 0 });
    await fake.until(() => fake.of(LEASES).length > 0);
    worker.stop();
    fake.toLease = [lease(0)];
    fake.changed();
    await running;
    assert.deepEqual([fake.ends().map((end) => end.outcome), begun], [["released"], false]);
  });
});
