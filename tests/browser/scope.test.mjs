// The bell, the boxes and the list show the same set of tasks: the caller's own, or everyone's.
import assert from "node:assert/strict";
import { after, before, beforeEach, afterEach, test } from "node:test";
import { launch, open, serve, wait } from "./harness.mjs";

let browser, server;

before(async () => {
  browser = await launch();
});
after(() => browser?.close());

/** Two tasks of Ann, and one of the user of this server. */
beforeEach(async () => {
  server = await serve();
  for (const [title, owner] of [["First of Ann", "ann"], ["Second of Ann", "ann"], ["Mine", "local"]]) await wait(server, title, { owner });
});
afterEach(() => server?.stop());

const row = (page, title) => page.locator("taskbell-tasks tbody tr", { hasText: title });
const choice = (page, name) => page.getByRole("radio", { name, exact: true });

/** The number of tasks that the list says, its rows, and the queued tasks of the boxes and of the bell. With `n`: whether each is that number. */
const shown = (n) => {
  const [tasks, bell] = ["taskbell-tasks", "taskbell-bell"].map((name) => document.querySelector(name)?.shadowRoot);
  const text = (root, selector) => root?.querySelector(selector)?.textContent ?? "";
  const texts = { list: text(tasks, ".total").replace(/ .*/, ""), rows: String(tasks?.querySelectorAll("tbody tr").length), boxes: text(tasks, ".check[data-status=queued] .tally"), bell: text(bell, ".counters a[data-status=queued] b") };
  return n === null ? texts : Object.values(texts).every((value) => value === String(n));
};

/** Waits until the list, the boxes and the bell all show this number of queued tasks. */
async function showsAll(page, n) {
  const isShown = page.waitForFunction(shown, n, { timeout: 5000 });
  await isShown.catch(async () => assert.fail(`not ${n} everywhere: ${JSON.stringify(await page.evaluate(shown, null))}`));
}

/** A server with sessions would say this about the caller. */
const session = (caller) => (page) => page.route("**/v1/session", (route) => route.fulfill({ json: caller }));

test("a list of everyone's tasks stands beside the counts of everyone's tasks", async () => {
  const { page, bad, close } = await open(browser, server);
  await row(page, "First of Ann").waitFor();
  await row(page, "Mine").waitFor();
  await showsAll(page, 3);
  assert.deepEqual(bad, []);
  await close();
});

test("the list, the boxes and the bell follow the choice; a link, a reload and Back show the same", async () => {
  const { page, bad, close } = await open(browser, server);
  await showsAll(page, 3);
  assert.ok(await choice(page, "Everyone").isChecked());
  await choice(page, "Mine").check();
  await showsAll(page, 1);
  assert.equal(new URL(page.url()).search, "?owner=local");
  await page.getByRole("checkbox", { name: "Queued" }).check();
  await page.waitForURL((url) => url.search === "?owner=local&status=queued");
  await page.reload();
  await showsAll(page, 1);
  assert.ok(await choice(page, "Mine").isChecked());

  await page.locator("button#bell").click();
  await page.locator(".latest li").first().waitFor();
  assert.deepEqual(await page.locator(".latest .title").allTextContents(), ["Mine"]);
  assert.equal(await page.locator(".panel h2").textContent(), "Your tasks");
  assert.equal(await page.locator(".counters a[data-status=failed]").getAttribute("href"), "/?status=failed&owner=local");
  await page.keyboard.press("Escape");

  await row(page, "Mine").locator(".title").click();
  await page.waitForURL(/\/tasks\/.*\?owner=local$/);
  await page.getByRole("link", { name: "Taskbell" }).click();
  await showsAll(page, 1);
  await choice(page, "Everyone").check();
  await showsAll(page, 3);
  assert.equal(new URL(page.url()).search, "");
  await page.goBack();
  await showsAll(page, 1);
  await wait(server, "One more of Ann", { owner: "ann" });
  await wait(server, "Also mine");
  await showsAll(page, 2);
  assert.deepEqual(bad, []);
  await close();
});

test("what ended for others is new for everyone's bell, and marked as seen for the caller alone", async () => {
  const { items } = await server.call("GET", "/v1/tasks?owner=ann");
  await server.call("POST", `/v1/tasks/${items[0].id}/cancel`, {});
  const { page, bad, close } = await open(browser, server);
  await page.locator(".badge:not([hidden])", { hasText: "1" }).waitFor();
  await choice(page, "Mine").check();
  await showsAll(page, 1);
  await page.locator(".badge").waitFor({ state: "hidden" });
  await page.goto(`${server.base}/?owner=ann`);
  await page.locator(".badge:not([hidden])", { hasText: "1" }).waitFor();
  await page.locator("button#bell").click();
  await page.locator(".unseen", { hasText: "1 cancelled" }).waitFor();
  assert.equal(await page.locator(".panel h2").textContent(), "Tasks of ann");
  assert.equal(await page.getByRole("button", { name: "Mark as seen" }).isVisible(), false, "it is Ann's to mark");
  await page.keyboard.press("Escape");
  await page.getByRole("button", { name: "Remove filter owner: ann" }).click();
  await choice(page, "Everyone").waitFor();
  await page.locator(".badge:not([hidden])", { hasText: "1" }).waitFor();
  await page.locator("button#bell").click();
  await page.getByRole("button", { name: "Mark as seen" }).click();
  await page.locator(".badge").waitFor({ state: "hidden" });
  assert.equal((await server.call("GET", "/v1/counters?owner=ann")).unseen.cancelled, 1, "Ann has not seen it");
  assert.deepEqual(bad, []);
  await close();
});

test("during the switch no number and no row of the former choice is shown", async () => {
  let release;
  const held = new Promise((resolve) => (release = resolve));
  const before = async (page) => {
    await page.routeWebSocket(/\/v1\/live\?owner=local$/, async (socket) => {
      await held;
      socket.connectToServer();
    });
    await page.route(/\/v1\/tasks\?.*owner=local/, async (route) => {
      await held;
      await route.continue();
    });
  };
  const { page, bad, close } = await open(browser, server, "/", { before });
  await showsAll(page, 3);
  await page.evaluate(() => {
    const tasks = document.querySelector("taskbell-tasks").shadowRoot;
    const bell = document.querySelector("taskbell-bell").shadowRoot;
    const numbers = () => [...tasks.querySelectorAll(".tally"), ...bell.querySelectorAll(".counters b"), ...bell.querySelectorAll(".chip-count:not([hidden])")].map((node) => node.textContent);
    const look = () => ({ numbers: [...new Set(numbers())], rows: tasks.querySelectorAll("tbody tr").length, pager: tasks.querySelector(".pager").hidden });
    tasks.querySelector("input[value=mine]").addEventListener("change", () => (window.atOnce = look()));
  });
  await choice(page, "Mine").check();
  const none = { numbers: ["–"], rows: 0, pager: true };
  assert.deepEqual(await page.evaluate(() => window.atOnce), none);
  assert.equal(await page.locator("taskbell-bell button#bell .sr").textContent(), "Tasks: connecting");
  release();
  await showsAll(page, 1);
  assert.deepEqual(bad, []);
  await close();
});

test("an operator sees its own tasks at first; who may not see everyone's has no choice", async () => {
  const operator = { subject: "local", role: "operator", default_owner: "local", may_see_everyone: true };
  const first = await open(browser, server, "/", { before: session(operator) });
  await choice(first.page, "Mine").waitFor();
  assert.ok(await choice(first.page, "Mine").isChecked());
  await choice(first.page, "Everyone").check();
  await first.page.waitForURL((url) => url.search === "?owner=*");
  await showsAll(first.page, 3);
  assert.deepEqual(first.bad, []);
  await first.close();

  const user = { subject: "local", role: "user", default_owner: "local", may_see_everyone: false };
  const second = await open(browser, server, "/", { before: session(user) });
  await row(second.page, "Mine").waitFor();
  await second.page.locator("caption", { hasText: "Your tasks" }).waitFor({ state: "attached" });
  assert.equal(await choice(second.page, "Everyone").isVisible(), false);
  assert.deepEqual(second.bad, []);
  await second.close();
});

test("the choice is made with the keyboard, and the focus stays on it", async () => {
  const { page, bad, close } = await open(browser, server);
  await showsAll(page, 3);
  await choice(page, "Everyone").focus();
  await page.keyboard.press("ArrowLeft");
  await showsAll(page, 1);
  assert.ok(await choice(page, "Mine").evaluate((radio) => radio.matches(":focus") && radio.checked));
  assert.equal(await page.getByRole("group", { name: "Whose tasks" }).count(), 1);
  assert.deepEqual(bad, []);
  await close();
});
