// axe-core over the main states, light and dark, wide and narrow; and nothing wider than a phone.
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { after, before, test } from "node:test";
import { distribute, launch, open, serve, until, wait } from "./harness.mjs";

const axe = await readFile(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
let browser, server, running, cancelled;

before(async () => {
  browser = await launch();
  server = await serve("--content-bytes-per-s", "1000000");
  cancelled = await wait(server, "Cancelled before it started", { labels: { course: "physics" } });
  await server.call("POST", `/v1/tasks/${cancelled.id}/cancel`, { reason: "not needed" });
  await wait(server, "Waits for a worker");
  running = await distribute(server, "long", 200_000_000, "Runs for a while");
  await distribute(server, "short", 1000, "Done at once");
  await until(server, running.id, ({ status }) => status === "running");
});
after(async () => {
  await browser?.close();
  await server?.stop();
});

const list = (page) => page.locator("tbody tr", { hasText: "Runs for a while" }).waitFor();
/** Lets the page lose its websocket, and every later one, when it calls `cutSockets`. */
const cut = async (page) => {
  const sockets = [];
  let isCut = false;
  await page.routeWebSocket(/\/v1\/live/, (socket) => {
    if (isCut) return;
    socket.connectToServer();
    sockets.push(socket);
  });
  await page.exposeFunction("cutSockets", async () => {
    isCut = true;
    for (const socket of sockets) await socket.close();
  });
};
const STATES = {
  "the list": ["/", list],
  "the open panel": ["/", async (page) => {
    await list(page);
    await page.locator("button#bell").click();
    await page.locator(".latest li").first().waitFor();
  }],
  "the question behind the cross": ["/", async (page) => {
    await list(page);
    await page.getByRole("button", { name: "Cancel task: Runs for a while" }).click();
    await page.getByText("Cancel this task?").waitFor();
  }],
  "a filter that nothing matches": ["/?status=failed&q=nothing", (page) => page.getByText("No task matches").waitFor()],
  "a running task": [() => `/tasks/${running.id}`, (page) => page.locator("ol.timeline li").nth(1).waitFor()],
  "a cancelled task with its data open": [() => `/tasks/${cancelled.id}`, async (page) => {
    await page.locator("ol.steps li").nth(2).waitFor();
    await page.locator("ol.timeline summary").first().click();
  }],
  "a task that isn't there": ["/tasks/nothing", (page) => page.getByText("There is no such task").waitFor()],
  "the list, while it is read again": ["/", async (page) => {
    await list(page);
    await page.route(/\/v1\/tasks\?/, () => {});
    await page.locator(".check[data-status=running]").click();
    await page.locator(".card[aria-busy]").waitFor();
  }],
  "the list with a task that has left it": ["/?status=queued", async (page) => {
    const leaving = await wait(server, "Leaves the list");
    await page.locator("tbody tr", { hasText: "Leaves the list" }).waitFor();
    await server.call("POST", `/v1/tasks/${leaving.id}/cancel`);
    await page.locator("tr[data-gone]").waitFor();
  }],
  "old numbers": ["/", async (page) => {
    await list(page);
    await page.locator("button#bell").click();
    await page.locator(".latest li").first().waitFor();
    await page.locator(".filters[data-connection=live]").waitFor();
    await page.evaluate(() => globalThis.cutSockets());
    await page.locator(".filters[data-connection=reconnecting]").waitFor();
  }, cut],
};

for (const colorScheme of ["light", "dark"]) {
  for (const width of [1440, 360]) {
    test(`axe finds nothing in ${Object.keys(STATES).length} states, ${colorScheme}, ${width} px wide`, async () => {
      for (const [name, [path, ready, before]] of Object.entries(STATES)) {
        const options = { colorScheme, viewport: { width, height: 900 }, reducedMotion: "reduce", before };
        const { page, close } = await open(browser, server, typeof path === "string" ? path : path(), options);
        await ready(page);
        await page.evaluate(axe);
        const { violations } = await page.evaluate(() => globalThis.axe.run(document, { runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"] }));
        const found = violations.map(({ id, nodes }) => `${id}: ${nodes.map(({ target, failureSummary }) => `${target} ${failureSummary}`).join("; ")}`);
        assert.deepEqual(found, [], `${name}, ${colorScheme}, ${width} px`);
        const over = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
        assert.equal(over, 0, `${name} is ${over} px too wide at ${width} px`);
        await close();
      }
    });
  }
}
