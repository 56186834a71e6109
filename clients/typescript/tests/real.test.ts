// Client and worker against the real server.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { readFile } from "node:fs/promises";
import { text } from "node:stream/consumers";
import { after, afterEach, before, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { Cancelled, Client, Failure, type Handler, LeaseLost, Problem, Unreachable, Worker } from "taskbell";
import { gate, HERE, Server } from "./server.js";

let server: Server;
let client: Client;
let stop = async () => {};

before(async () => {
  server = await Server.start("--kind", "ts.sleeper:lease_s=1");
  client = server.client;
});

after(() => server.close());

afterEach(async () => {
  await stop();
  stop = async () => {};
});

function work(handlers: Record<string, Handler>, concurrency = 4): void {
  const options = { client, concurrency, graceMs: 2_000, waitMs: 200, signals: false, log: () => {} };
  const worker = new Worker(handlers, options);
  const running = worker.run();
  stop = () => (worker.stop(), running);
}

const within = (ms = 20_000) => ({ signal: AbortSignal.timeout(ms) });

async function refusal(promise: Promise<unknown>): Promise<Problem> {
  const error = await promise.then(() => null, (error: unknown) => error);
  assert.ok(error instanceof Problem, String(error));
  return error;
}

describe("asking", () => {
  test("the same key gives the same task, and another body is refused", async () => {
    const options = { idempotencyKey: "key", title: "One", labels: { a: "b" } };
    const first = await client.submit("nobody.does", { n: 1 }, options);
    const again = await client.submit("nobody.does", { n: 1 }, options);
    assert.deepEqual([again.id, again.labels], [first.id, { a: "b" }]);
    const refused = await refusal(client.submit("nobody.does", { n: 2 }, options));
    assert.deepEqual([refused.code, refused.status, refused.retryable], ["idempotency_key_reused", 422, false]);
  });

  test("refusals are typed and name the field", async () => {
    const refused = await refusal(client.submit("No Kind", null, { maxAttempts: 0 }));
    assert.deepEqual(refused.errors.map((field) => field.pointer), ["/kind", "/max_attempts"]);
    assert.equal((await refusal(client.get("../tasks"))).code, "not_found");
    assert.throws(() => new Client({ server: "localhost:7070" }), TypeError);
    await assert.rejects(new Client({ server: "http://127.0.0.1:9", patienceMs: 100 }).get("x"), Unreachable);
  });

  test("who waits hears of the end and not before", async () => {
    const { id } = await client.submit("nobody.does");
    await assert.rejects(client.wait(id, within(200)), { name: "TimeoutError" });
    setTimeout(() => void client.cancel(id, "changed my mind"), 300);
    const ended = await client.wait(id, within());
    assert.deepEqual([ended.status, ended.cancel?.reason], ["cancelled", "changed my mind"]);
    assert.equal((await client.cancel(id)).status, "cancelled");
  });
});

describe("working", () => {
  test("a task is done with its message, result and last progress", async () => {
    work({
      "ts.sum": (ctx) => {
        assert.deepEqual([ctx.kind, ctx.title, ctx.attempt, ctx.labels], ["ts.sum", "Sum", 1, { for: "anna" }]);
        ctx.progress(7.5, "all of\nit");
        return { message: "added", result: ctx.input.reduce((sum: number, n: number) => sum + n, 0) };
      },
    });
    const { id } = await client.submit("ts.sum", [1, 2, 3], { title: "Sum", labels: { for: "anna" } });
    const task = await client.wait(id, within());
    assert.deepEqual([task.status, task.outcome?.message, task.result], ["succeeded", "added", 6]);
    assert.deepEqual([task.progress?.fraction, task.progress?.message], [1, "all of it"]);
  });

  test("many are each done once", async () => {
    const done: number[] = [];
    work({ "ts.many": (ctx) => void done.push(ctx.input) }, 20);
    const numbers = Array.from({ length: 200 }, (_, n) => n);
    const tasks = await Promise.all(numbers.map((n) => client.submit("ts.many", n)));
    for (const { id } of tasks) assert.equal((await client.wait(id, within())).status, "succeeded");
    assert.deepEqual(done.sort((a, b) => a - b), numbers);
  });

  test("a failure is tried again unless it says no", async () => {
    work({
      "ts.flaky": (ctx) => {
        if (ctx.attempt === 1) throw new Error("the other side is asleep");
      },
      "ts.fatal": () => {
        throw new Failure("no_such_image", "there is no image 7", { retryable: false });
      },
    });
    const flaky = await client.submit("ts.flaky", null, { maxAttempts: 3 });
    const fatal = await client.submit("ts.fatal", null, { maxAttempts: 3 });
    const failed = await client.wait(fatal.id, within());
    assert.deepEqual([failed.status, failed.attempt], ["failed", 1]);
    assert.deepEqual(failed.outcome?.error, { code: "no_such_image", message: "there is no image 7" });
    const succeeded = await client.wait(flaky.id, within());
    assert.deepEqual([succeeded.status, succeeded.attempt], ["succeeded", 2]);
  });

  test("an end that the server refuses is a failure that says so", async () => {
    work({
      "ts.large": () => ({ result: "x".repeat(5_000_000) }),
      "ts.moody": () => {
        throw new Cancelled("I'd rather not");
      },
      "ts.half": () => ({ result: "\ud800" }),
    });
    const codes = { "ts.large": "too_large", "ts.moody": "not_cancelling", "ts.half": "malformed_json" };
    for (const [kind, code] of Object.entries(codes)) {
      const { id } = await client.submit(kind, null, { maxAttempts: 3 });
      const task = await client.wait(id, within());
      assert.deepEqual([task.status, task.outcome?.error?.code, task.attempt], ["failed", code, 1]);
    }
  });

  test("a cancel reaches a handler that waits", async () => {
    work({
      "ts.wait": async (ctx) => {
        await sleep(20_000, undefined, { signal: ctx.signal }).catch(() => {});
        ctx.throwIfCancelled();
      },
    });
    const { id } = await client.submit("ts.wait");
    await server.until(id, (task) => task.status === "running");
    await sleep(200); // until a heartbeat waits for it: only then is the time below that of a cancel
    const began = Date.now();
    await client.cancel(id);
    const task = await client.wait(id, within());
    assert.ok(Date.now() - began < 1_000);
    assert.deepEqual([task.status, task.cancel?.verdict], ["cancelled", "cancelled"]);
    assert.ok(task.cancel?.acknowledged_at);
    assert.equal(task.cancel.stopping_after, null);
  });

  test("a cancel during a step shows what it waits for", async () => {
    const { opened, open } = gate();
    work({
      "ts.image": async (ctx) => {
        await ctx.blocking("writing image", { expectedMs: 20_000 }, () => opened);
        ctx.throwIfCancelled();
      },
    });
    const { id } = await client.submit("ts.image");
    await server.until(id, (task) => task.status === "running");
    await client.cancel(id);
    const task = await server.until(id, (task) => task.cancel?.acknowledged_at);
    assert.deepEqual([task.status, task.cancel?.stopping_after], ["cancelling", "writing image"]);
    assert.ok(task.cancel?.expected_end);
    open();
    assert.equal((await client.wait(id, within())).status, "cancelled");
  });

  test("what comes after the end is refused, and the handler told", async () => {
    const told = gate();
    let lease = "";
    work({
      "ts.slow": async (ctx) => {
        lease = ctx.lease.lease;
        await sleep(20_000, undefined, { signal: ctx.signal }).catch(() => {});
        if (ctx.signal.reason instanceof LeaseLost) told.open();
        return { message: "too late" };
      },
    });
    const { id } = await client.submit("ts.slow", null, { timeoutS: 1 });
    const task = await client.wait(id, within());
    assert.deepEqual([task.status, task.outcome?.error?.code], ["failed", "timed_out"]);
    await told.opened;
    const answer = await server.post("/v1/leases/finish", { items: [{ lease, outcome: "succeeded" }] });
    assert.equal(answer.items[0].problem.code, "lease_lost");
    assert.equal((await client.get(id)).revision, task.revision);
  });

  test("an interrupt is heard after a cancel that was ignored", async () => {
    work({
      "ts.stubborn": async (ctx) => {
        await sleep(20_000, undefined, { signal: ctx.interruptSignal }).catch(() => {});
        ctx.throwIfCancelled();
      },
    });
    const { id } = await client.submit("ts.stubborn");
    await server.until(id, (task) => task.status === "running");
    await client.cancel(id);
    await server.post(`/v1/tasks/${id}/escalate`, { rung: "interrupt" });
    const { status, cancel } = await client.wait(id, within());
    assert.deepEqual([status, cancel?.rung, cancel?.verdict], ["cancelled", "interrupt", "cancelled"]);
  });
});

test("a server that dies in the middle of attempts loses none", async () => {
  const [meanwhile, later] = [gate(), gate()];
  const begun = [gate(), gate()];
  work({
    "ts.meanwhile": async (ctx) => {
      begun[0]!.open();
      await meanwhile.opened;
      return { message: "while you were away", result: ctx.attempt };
    },
    "ts.later": async (ctx) => {
      begun[1]!.open();
      await later.opened;
      ctx.throwIfCancelled();
      return { message: "when you were back", result: ctx.attempt };
    },
  });
  const tasks = await Promise.all(["ts.meanwhile", "ts.later"].map((kind) => client.submit(kind)));
  for (const { opened } of begun) await opened; // until then the leases could be lost with the server
  await server.kill();
  meanwhile.open();
  await sleep(1_000);
  await server.start();
  assert.equal((await client.wait(tasks[0]!.id, within())).status, "succeeded");
  later.open();
  for (const { id } of tasks) {
    const task = await client.wait(id, within());
    assert.deepEqual([task.status, task.attempt, task.result], ["succeeded", 1, 1]);
    assert.deepEqual(await server.events(id), ["Created", "Started", "Completed"]);
  }
});

test("a worker that slept too long hears that its lease is lost", async () => {
  const code = `
    import { Worker } from "taskbell";
    const sleeper = async (ctx) => {
      if (ctx.attempt > 1) return { message: "the second time" };
      await new Promise((resolve) => ctx.interruptSignal.addEventListener("abort", resolve));
      console.log("told");
    };
    await new Worker({ "ts.sleeper": sleeper }, { waitMs: 200 }).run();`;
  const worker = spawn(process.execPath, ["--input-type=module", "-e", code], {
    cwd: HERE,
    env: { ...process.env, TASKBELL_SERVER: server.url },
    stdio: ["ignore", "pipe", "inherit"],
  });
  try {
    const { id } = await client.submit("ts.sleeper", null, { maxAttempts: 2 });
    await server.until(id, (task) => task.status === "running");
    worker.kill("SIGSTOP");
    await server.until(id, (task) => task.status !== "running");
    worker.kill("SIGCONT");
    assert.match(String(await once(worker.stdout, "data")), /told/);
    const task = await client.wait(id, within());
    assert.deepEqual([task.status, task.attempt], ["succeeded", 2]);
    const events = ["Created", "Started", "AttemptFailed", "Queued", "Started", "Completed"];
    assert.deepEqual(await server.events(id), events);
  } finally {
    worker.kill("SIGKILL");
  }
});

test("the example runs, and is what the readme shows", async () => {
  const example = await readFile(HERE + "examples/report.ts", "utf8");
  const readme = await readFile(HERE + "README.md", "utf8");
  assert.ok(readme.includes("```ts\n" + example + "```"));
  const run = (...args: string[]) =>
    spawn(process.execPath, [HERE + "dist/examples/report.js", ...args], {
      env: { ...process.env, TASKBELL_SERVER: server.url },
      stdio: ["ignore", "pipe", "inherit"],
    });
  const worker = run();
  try {
    assert.match(await text(run("ask").stdout!), /succeeded/);
    const { id } = await client.submit("report.render", { pages: 30 });
    await server.until(id, (task) => task.progress);
    const over = once(worker, "exit");
    worker.kill("SIGTERM");
    assert.deepEqual(await over, [0, null]);
    assert.equal((await client.get(id)).status, "succeeded");
  } finally {
    worker.kill("SIGKILL");
  }
});
