// What a person sees and does, against the real server.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { distribute, launch, open, serve, until, wait } from "./harness.mjs";

const RATE = 40_000_000;
const LIST = /\/v1\/tasks\?/;
let browser, server;

before(async () => {
  browser = await launch();
  server = await serve("--content-bytes-per-s", String(RATE));
});
after(async () => {
  await browser?.close();
  await server?.stop();
});

const row = (page, title) => page.locator("taskbell-tasks tbody tr", { hasText: title });
const tally = (page, status) => page.locator(`.check[data-status=${status}] .tally`);
const bellName = (page) => page.locator("taskbell-bell button#bell");

/** Notes, by the page's own clock, when the button was pressed and when the row first said `word`. */
const watchFor = (page, title, word) => page.evaluate(([title, word]) => {
  const root = document.querySelector("taskbell-tasks").shadowRoot;
  const seen = (window.seen = { clicked: null, said: null });
  root.addEventListener("click", (event) => {
    if (event.target.textContent === "Cancel task") seen.clicked ??= performance.now();
  }, true);
  const look = () => {
    const found = [...root.querySelectorAll("tbody tr")].find((tr) => tr.textContent.includes(title));
    if (found?.querySelector(".status").textContent === word) seen.said ??= performance.now();
  };
  new MutationObserver(look).observe(root, { subtree: true, childList: true, characterData: true, attributes: true });
}, [title, word]);

test("the bell and the check boxes show exact counts, pushed without a reload", async () => {
  const { page, bad, close } = await open(browser, server);
  await page.locator(".filters[data-connection=live]").waitFor();
  const start = (await server.call("GET", "/v1/counters")).counts;
  await page.evaluate(() => (window.stillHere = true));
  for (let i = 0; i < 3; i++) await wait(server, `Count me ${i}`);
  const now = start.queued + 3;
  await page.waitForFunction((n) => document.querySelector("taskbell-tasks").shadowRoot.querySelector(".check[data-status=queued] .tally").textContent === String(n), now, { timeout: 2000 });
  await row(page, "Count me 2").waitFor();
  assert.match(await bellName(page).locator(".sr").textContent(), new RegExp(`^Tasks: .*${now} waiting.*, live$`));
  await bellName(page).click();
  assert.equal(await page.locator(".counters a[data-status=queued] b").textContent(), String(now));
  const said = await page.locator(".panel .connection").textContent();
  const { position, counts } = await server.call("GET", "/v1/counters");
  assert.equal(said, `Live · log position ${position.toLocaleString("en-GB")}`);
  for (const [status, n] of Object.entries(counts)) assert.equal(await tally(page, status).textContent(), String(n), status);
  assert.ok(await page.evaluate(() => window.stillHere));
  assert.deepEqual(bad, []);
  await close();
});

test("what ended is new until the panel was opened and closed", async () => {
  const { page, bad, close } = await open(browser, server);
  const { id } = await wait(server, "End me");
  await server.call("POST", `/v1/tasks/${id}/cancel`, {});
  await page.locator(".badge:not([hidden])").waitFor();
  await bellName(page).click();
  await page.locator(".unseen", { hasText: "1 cancelled" }).waitFor();
  await page.keyboard.press("Escape");
  await page.locator(".badge").waitFor({ state: "hidden" });
  const { unseen } = await server.call("GET", "/v1/counters");
  assert.deepEqual(unseen, { succeeded: 0, failed: 0, cancelled: 0 });
  assert.equal(await page.evaluate(() => document.activeElement.shadowRoot.activeElement.id), "bell", "focus is back on the bell");
  assert.deepEqual(bad, []);
  await close();
});

test("the red cross: asked at once, the step that is waited for, then cancelled, and who and when in the history", async (t) => {
  const { page, bad, close } = await open(browser, server, "/?status=running,cancelling,queued,cancelled");
  const task = await distribute(server, "lectures", 300_000_000, "Lectures to the course server");
  const line = row(page, "Lectures to the course server");
  await line.locator(".status", { hasText: "Running" }).waitFor();
  await until(server, task.id, ({ progress }) => progress?.fraction > 0.02);
  await line.locator("progress").waitFor();
  await watchFor(page, "Lectures to the course server", "Cancelling");
  await line.getByRole("button", { name: "Cancel task: Lectures to the course server" }).click();
  await line.getByText("Cancel this task?").waitFor();
  await line.getByRole("button", { name: "Cancel task", exact: true }).click();
  await page.waitForFunction(() => window.seen.said !== null);
  const { clicked, said } = await page.evaluate(() => window.seen);
  t.diagnostic(`cancelling was visible ${Math.round(said - clicked)} ms after the click`);
  // The goal is 200 ms on a quiet machine; a busy one must not turn the suite red.
  assert.ok(said - clicked < 2000, `cancelling was visible after ${said - clicked} ms`);
  await line.locator(".cell-outcome", { hasText: /Stops after: .*video\.bin/ }).waitFor({ timeout: 5000 });
  assert.ok(!(await line.textContent()).includes("Cancelled"), "never cancelled while it is cancelling");
  await line.locator(".status", { hasText: "Cancelled" }).waitFor({ timeout: 20_000 });
  const ended = await until(server, task.id, ({ status }) => status === "cancelled");
  assert.equal(ended.cancel.verdict, "cancelled");
  await line.locator(".cell-outcome .outcome", { hasText: "Cancelled" }).waitFor();

  await line.locator(".title").click();
  const steps = page.locator("ol.steps li");
  await steps.nth(2).waitFor();
  const facts = await steps.allTextContents();
  assert.match(facts[0], new RegExp(`^Requested.*\\d\\d:\\d\\d:\\d\\d by ${ended.cancel.requested_by}`));
  assert.match(facts[1], /^Acknowledged.*\d\d:\d\d:\d\d by .+stops after: .*video\.bin/);
  assert.match(facts[2], /^Cancelled.*\d\d:\d\d:\d\d by /);
  const { items } = await server.call("GET", `/v1/tasks/${task.id}/events`);
  const shown = page.locator("ol.timeline > li");
  assert.equal(await shown.count(), items.length);
  const texts = await shown.allTextContents();
  items.forEach(({ type, meta }, i) => {
    assert.ok(texts[i].includes(type), `${type} in ${texts[i]}`);
    assert.ok(texts[i].includes(meta.actor), `${meta.actor} in ${texts[i]}`);
  });
  await page.getByRole("button", { name: "Run again" }).waitFor();
  assert.deepEqual(bad, []);
  await close();
});

test("a cancel with the keyboard alone; Escape keeps the task and gives focus back", async () => {
  const { page, bad, close } = await open(browser, server, "/?q=keyboard");
  await wait(server, "Only the keyboard");
  const line = row(page, "Only the keyboard");
  await line.waitFor();
  const cross = line.getByRole("button", { name: "Cancel task: Only the keyboard" });
  for (let i = 0; i < 60; i++) {
    await page.keyboard.press("Tab");
    if (await cross.evaluate((button) => button.matches(":focus-visible"))) break;
  }
  await page.keyboard.press("Enter");
  await line.getByText("Cancel this task?").waitFor();
  await page.keyboard.press("Escape");
  await line.getByText("Cancel this task?").waitFor({ state: "detached" });
  assert.ok(await cross.evaluate((button) => button.matches(":focus")));
  await page.keyboard.press("Enter");
  await page.keyboard.press("Enter");
  await line.locator(".status", { hasText: "Cancelled" }).waitFor();
  assert.ok(await line.locator(".title").evaluate((link) => link.matches(":focus")), "focus stays in the row");
  assert.deepEqual(bad, []);
  await close();
});

test("filters, pages and the page size stand in the address; Back and Forward and a reload keep them", async () => {
  const ids = [];
  for (let i = 0; i < 25; i++) ids.push((await wait(server, `Paged ${String(i).padStart(2, "0")}`, { queue: "paged" })).id);
  const { page, bad, close } = await open(browser, server, "/?queue=paged");
  await row(page, "Paged 24").waitFor();
  assert.equal(await page.locator(".total").textContent(), "25 tasks");
  assert.equal(await page.locator("tbody tr").count(), 20);
  await page.getByRole("link", { name: "Next" }).click();
  await row(page, "Paged 00").waitFor();
  assert.equal(await page.locator("tbody tr").count(), 5);
  assert.match(page.url(), /cursor=/);
  await page.goBack();
  await row(page, "Paged 24").waitFor();
  await page.goForward();
  await row(page, "Paged 00").waitFor();
  await page.reload();
  await row(page, "Paged 00").waitFor();
  await page.getByRole("link", { name: "Previous" }).click();
  await row(page, "Paged 24").waitFor();
  assert.equal(await page.locator("tbody tr").count(), 20);
  await page.getByRole("checkbox", { name: "Failed" }).check();
  await page.getByText("No task matches these filters").waitFor();
  assert.match(page.url(), /status=failed/);
  await page.getByRole("checkbox", { name: "Queued" }).check();
  await row(page, "Paged 24").waitFor();
  await page.getByRole("searchbox").fill("Paged 07");
  await row(page, "Paged 24").waitFor({ state: "detached" });
  await row(page, "Paged 07").waitFor();
  await page.getByRole("button", { name: "Remove filter queue: paged" }).click();
  await page.waitForURL((url) => !url.searchParams.has("queue"));
  assert.deepEqual(bad, []);
  await close();
});

test("rows don't move under the pointer: new ones wait behind a button; a row that leaves the filter stays for a while", async () => {
  const { page, bad, close } = await open(browser, server, "/?status=queued&kind=test.nobody");
  const { id } = await wait(server, "Under the pointer");
  const line = row(page, "Under the pointer");
  await line.hover();
  const before = await line.boundingBox();
  await wait(server, "Came later");
  await page.locator(".new-tasks", { hasText: "1 new task" }).waitFor();
  assert.deepEqual(await line.boundingBox(), before);
  await server.call("POST", `/v1/tasks/${id}/cancel`, {});
  await page.locator("tr[data-gone]", { hasText: "Under the pointer" }).waitFor();
  await line.locator(".status", { hasText: "Cancelled" }).waitFor();
  await page.locator(".new-tasks").click();
  await row(page, "Came later").waitFor();
  await line.waitFor({ state: "detached" });
  assert.deepEqual(bad, []);
  await close();
});

test("an open question, its focus and the scroll survive a storm of updates", async () => {
  const { page, bad, close } = await open(browser, server, "/?kind=test.nobody&limit=100");
  await wait(server, "Ask about me", { queue: "storm" });
  const line = row(page, "Ask about me");
  await line.getByRole("button", { name: "Cancel task: Ask about me" }).click();
  const yes = line.getByRole("button", { name: "Cancel task", exact: true });
  await yes.evaluate((button) => (button.marked = true));
  const top = await page.evaluate(() => (scrollTo(0, 120), scrollY));
  const items = Array.from({ length: 200 }, (_, i) => ({ kind: "test.nobody", title: `Storm ${i}`, queue: "storm" }));
  const made = await server.call("POST", "/v1/tasks/batch", { items });
  await Promise.all(made.items.slice(0, 100).map(({ id }) => server.call("POST", `/v1/tasks/${id}/cancel`, {})));
  await page.locator(".new-tasks", { hasText: "new tasks" }).waitFor();
  const { counts } = await server.call("GET", "/v1/counters");
  await page.waitForFunction((n) => document.querySelector("taskbell-tasks").shadowRoot.querySelector(".check[data-status=queued] .tally").textContent.replace(/\D/g, "") === String(n), counts.queued);
  assert.ok(await yes.evaluate((button) => button.marked && button.matches(":focus")));
  assert.equal(await page.evaluate(() => scrollY), top);
  await line.getByRole("button", { name: "Keep" }).click();
  assert.deepEqual(bad, []);
  await close();
});

test("old numbers are said to be old: reconnecting at once, stale after 20 s, and exact again afterwards", async () => {
  let muted = false;
  const sockets = new Set();
  const before = (page) => page.routeWebSocket("**/v1/live", (socket) => {
    const up = socket.connectToServer();
    sockets.add(socket);
    socket.onMessage((message) => muted || up.send(message));
    up.onMessage((message) => muted || socket.send(message));
  }).then(() => page.clock.install());
  const { page, bad, close } = await open(browser, server, "/", { before });
  await page.locator(".filters[data-connection=live]").waitFor();
  await bellName(page).click();
  muted = true;
  await page.clock.fastForward(21_000);
  await page.locator(".panel .connection", { hasText: /^Stale since \d\d:\d\d:\d\d$/ }).waitFor();
  assert.match(await bellName(page).locator(".sr").textContent(), /, stale$/);
  assert.notEqual(await tally(page, "queued").textContent(), "–");
  const title = "Made while nobody listened";
  await wait(server, title);
  muted = false;
  await page.clock.fastForward(60_000);
  await page.locator(".panel .connection", { hasText: /^Live/ }).waitFor();
  const { counts } = await server.call("GET", "/v1/counters");
  assert.equal(await tally(page, "queued").textContent(), String(counts.queued));
  await page.keyboard.press("Escape");
  await row(page, title).waitFor();
  for (const socket of sockets) await socket.close().catch(() => {});
  await page.locator(".filters[data-connection=reconnecting]").waitFor();
  await page.clock.fastForward(2000);
  await page.locator(".filters[data-connection=live]").waitFor();
  assert.deepEqual(bad, []);
  await close();
});

test("before the first snapshot no number is shown, and a list that can't be read says so", async () => {
  const before = async (page) => {
    await page.routeWebSocket("**/v1/live", () => {});
    await page.route(LIST, (route) => route.fulfill({ status: 503, contentType: "application/problem+json", body: JSON.stringify({ title: "Behind", detail: "The view is behind.", code: "behind", status: 503 }) }));
  };
  const { page, close } = await open(browser, server, "/", { before });
  await page.getByText("Could not load the tasks").waitFor();
  await page.getByText("The view is behind.", { exact: true }).waitFor();
  assert.equal(await tally(page, "running").textContent(), "–");
  assert.equal(await bellName(page).locator(".sr").textContent(), "Tasks: connecting");
  await page.unroute(LIST);
  await page.getByRole("button", { name: "Try again" }).click();
  await page.locator("tbody tr").first().waitFor();
  await close();
});

test("hostile words are words: nothing runs, nothing is fetched, nothing is reported", async () => {
  const hostile = [
    "<img src=x onerror=alert(1)>", "<script>alert(1)</script>", "\"><svg onload=alert(1)>", "javascript:alert(1)", "{{constructor.constructor('alert(1)')()}}",
    "<iframe srcdoc='<script>alert(1)</script>'>", "<a href=//evil.example>x</a>", "' onmouseover='alert(1)", "<style>*{display:none}</style>", "\u202Egnp.exe", "a".repeat(500),
  ];
  const made = [];
  for (const title of hostile) made.push(await wait(server, title, { queue: "hostile", labels: { note: title.slice(0, 60) }, input: { html: title } }));
  const { page, bad, close } = await open(browser, server, "/?queue=hostile");
  for (const [i, title] of hostile.entries()) {
    await page.goto(`${server.base}/?queue=hostile`);
    await page.locator(`tr[data-id="${made[i].id}"] .title`).click();
    await page.locator("taskbell-task .task-head h1").waitFor();
    assert.equal(await page.locator("taskbell-task .task-head h1").textContent(), title.replace("\u202e", "⟨U+202E⟩"));
  }
  await page.goto(`${server.base}/?queue=${encodeURIComponent("<b>x</b>")}&q=${encodeURIComponent("<img src=x>")}`);
  await page.locator(".note:visible", { hasText: /Could not load the tasks|No task matches these filters/ }).waitFor();
  assert.deepEqual(bad, []);
  await close();
});

test("a task that isn't there is said in words, and its page leads back", async () => {
  const { page, bad, close } = await open(browser, server, "/tasks/0197aaaa-0000-7000-8000-000000000000");
  await page.getByText("There is no such task").waitFor();
  await page.getByRole("link", { name: "All tasks" }).first().click();
  await page.locator("taskbell-tasks h1").waitFor();
  assert.deepEqual(bad, []);
  await close();
});

test("a page of a task is live, and the id can be copied without the clipboard API", async () => {
  const { id } = await wait(server, "Watch me");
  const before = (page) => page.addInitScript(() => Object.defineProperty(navigator, "clipboard", { value: undefined }));
  const { page, bad, close } = await open(browser, server, `/tasks/${id}`, { before });
  await page.locator("ol.timeline > li").first().waitFor();
  await page.getByRole("button", { name: "Copy the id" }).click();
  await page.getByText("Copied", { exact: true }).waitFor();
  await server.call("POST", `/v1/tasks/${id}/cancel`, { reason: "made by mistake" });
  await page.locator(".status", { hasText: "Cancelled" }).waitFor({ timeout: 2000 });
  await page.locator("ol.steps li", { hasText: "made by mistake" }).waitFor();
  await page.locator("ol.timeline > li", { hasText: "Completed" }).waitFor();
  assert.deepEqual(bad, []);
  await close();
});

test("what an attempt wrote stands on its page, as text; a worker that doesn't stop is told, then left without its lease", async () => {
  const { id } = await server.call("POST", "/v1/tasks", { kind: "test.outside", title: "Built elsewhere", max_attempts: 1 });
  const { leases: [{ lease }] } = await server.call("POST", "/v1/leases", { worker: "outside", kinds: ["test.outside"] });
  const { page, bad, close } = await open(browser, server, `/tasks/${id}`);
  assert.equal(await page.locator(".escalate").isVisible(), false, "nobody has asked yet");
  await server.call("POST", `/v1/tasks/${id}/cancel`, {});
  await page.getByRole("button", { name: "Interrupt now" }).click();
  await page.locator("ol.timeline > li", { hasText: "Interrupted: the worker must stop now" }).waitFor();
  const { items: [finished] } = await server.call("POST", "/v1/leases/finish", { items: [{ lease, outcome: "cancelled", output: { tail: "line <b>one</b>\nline two", dropped_bytes: 1234 } }] });
  assert.equal(finished.status, "cancelled");
  await page.locator(".output pre", { hasText: "line <b>one</b>" }).waitFor();
  await page.locator(".output", { hasText: "bytes before it were not stored" }).waitFor();

  const again = await server.call("POST", "/v1/tasks", { kind: "test.outside", title: "Deaf" });
  await server.call("POST", "/v1/leases", { worker: "deaf", kinds: ["test.outside"] });
  await server.call("POST", `/v1/tasks/${again.id}/cancel`, {});
  await page.goto(`${server.base}/tasks/${again.id}`);
  await page.getByRole("button", { name: "Interrupt now" }).click();
  await page.getByRole("button", { name: "End by force" }).click();
  await page.locator(".status", { hasText: "Cancelled" }).waitFor();
  await page.locator("ol.steps li", { hasText: "by force" }).waitFor();
  await page.locator(".escalate").waitFor({ state: "hidden" });
  assert.deepEqual(bad, []);
  await close();
});
