// Pages of other origins, in a real browser: they change nothing, unless their origin is allowed.
import assert from "node:assert/strict";
import { createServer } from "node:http";
import { after, before, test } from "node:test";
import { launch, serve } from "./harness.mjs";

let browser, site, server;
/** The page that the other site shows. */
let html = "";

before(async () => {
  browser = await launch();
  site = createServer((_, response) => response.setHeader("content-type", "text/html").end(html));
  await new Promise((resolve) => site.listen(0, "127.0.0.1", resolve));
  server = await serve("--allow-origin", `http://127.0.0.1:${site.address().port}`);
});
after(async () => {
  await browser?.close();
  site?.close();
  await server?.stop();
});

/** The other site under two names: `127.0.0.1` is allowed and the same site as the server, `localhost` is neither. */
const other = (host) => `http://${host}:${site.address().port}/`;
const position = async () => (await server.call("GET", "/v1/log/head")).position;

test("a form and a script of another site change nothing and read nothing", async () => {
  const context = await browser.newContext();
  const page = await context.newPage();
  const start = await position();
  html = `<form method="post" enctype="text/plain" action="${server.base}/v1/tasks"><input name='{"kind":"a","title":"' value='"}'></form>`;
  await page.goto(other("localhost"));
  const [answer] = await Promise.all([page.waitForNavigation(), page.evaluate(() => document.forms[0].submit())]);
  assert.equal(answer.status(), 403);

  html = "<p>another site</p>";
  await page.goto(other("localhost"));
  const attempts = await page.evaluate(async (base) => {
    const json = { "content-type": "application/json" };
    const send = (init) => fetch(`${base}/v1/tasks`, { method: "POST", body: '{"kind":"a"}', ...init }).then(({ type }) => type, () => "refused");
    const socket = new Promise((resolve) => {
      const live = new WebSocket(`${base.replace("http", "ws")}/v1/live`);
      live.onopen = () => resolve("open");
      live.onclose = () => resolve("refused");
    });
    return {
      blind: await send({ mode: "no-cors" }), preflighted: await send({ headers: json }), beacon: navigator.sendBeacon(`${base}/v1/tasks`, new Blob(['{"kind":"a"}'], { type: "text/plain" })),
      read: await fetch(`${base}/v1/tasks`).then(() => "read", () => "refused"), module: await import(`${base}/ui/format.js`).then(() => "loaded", () => "refused"), socket: await socket,
    };
  }, server.base);
  assert.deepEqual(attempts, { blind: "refused", preflighted: "refused", beacon: true, read: "refused", module: "refused", socket: "refused" });
  assert.equal(await position(), start, "nothing was recorded");
  await context.close();
});

test("an image and a blind fetch of another site are refused, also as a read that would wait, and a link is followed", async () => {
  const context = await browser.newContext();
  const page = await context.newPage();
  // The browser itself shows these answers to nobody, so the test reads them from the network below it.
  const network = await context.newCDPSession(page);
  await network.send("Network.enable");
  const answered = (url) => new Promise((resolve) => {
    const statuses = new Map();
    let asked = null;
    const check = () => statuses.has(asked) && resolve(statuses.get(asked));
    network.on("Network.requestWillBeSent", ({ requestId, request }) => request.url === url && ((asked = requestId), check()));
    network.on("Network.responseReceivedExtraInfo", ({ requestId, statusCode }) => (statuses.set(requestId, statusCode), check()));
  });
  for (const host of ["localhost", "127.0.0.1"]) {
    html = `<p>another site</p><a href="${server.base}/v1/tasks">the tasks</a><a href="${server.base}/">the bell</a>`;
    await page.goto(other(host));
    for (const path of ["/v1/tasks", "/v1/log?follow=true", "/metrics"]) {
      // Without CORS a browser sends no origin with a read, also if the origin of the page is allowed.
      for (const read of [(url) => void (new Image().src = url), (url) => void fetch(url, { mode: "no-cors" }).catch(() => {})]) {
        const [status] = await Promise.all([answered(server.base + path), page.evaluate(read, server.base + path)]);
        assert.equal(status, 403, `${path} for ${host}`);
      }
    }
    for (const [name, path] of [["the tasks", "/v1/tasks"], ["the bell", "/"]]) {
      await page.goto(other(host));
      const [answer] = await Promise.all([page.waitForResponse(server.base + path), page.getByRole("link", { name }).click()]);
      assert.equal(answer.status(), 200, name);
      await page.waitForURL(server.base + path);
    }
  }
  await context.close();
});

test("a page of an allowed origin shows the bell of its user, by a bearer that its back end has got", async () => {
  const { token } = await server.call("POST", "/v1/session", { subject: "anna" });
  await server.call("POST", "/v1/tasks", { kind: "test.nobody", owner: "anna" });
  html = `<!doctype html><title>Shop</title><taskbell-bell></taskbell-bell><script type="module">
    import { useBearer } from "${server.base}/ui/api.js";
    useBearer(() => ${JSON.stringify(token)});
    await import("${server.base}/ui/bell.js");
  </script>`;
  const context = await browser.newContext();
  const page = await context.newPage();
  const asked = [];
  page.on("request", (request) => asked.push(request.url()));
  page.on("websocket", (socket) => asked.push(socket.url()));
  await page.goto(other("127.0.0.1"));
  await page.locator("taskbell-bell .sr", { hasText: /^Tasks: .*1 waiting.*, live$/ }).waitFor({ state: "attached" });
  assert.ok(asked.every((url) => !url.includes("tbs_")), "no address has the bearer");
  const tickets = asked.filter((url) => url.includes("ticket="));
  assert.equal(tickets.length, 1);
  const again = await page.evaluate((url) => new Promise((resolve) => {
    const socket = new WebSocket(url);
    socket.onopen = () => resolve("open");
    socket.onclose = () => resolve("refused");
  }), tickets[0]);
  assert.equal(again, "refused", "a ticket opens one socket");
  assert.deepEqual(await context.cookies(), []);
  await context.close();
});
