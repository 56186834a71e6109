// A page behind a proxy that authenticates. What the proxy says about the page's websocket counts for a limited time only.
import assert from "node:assert/strict";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { createServer, request } from "node:http";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { launch, open, serve } from "./harness.mjs";

let browser, server, folder, proxy;
/** Whom the proxy names; nobody if it is empty. */
let named = { "x-forwarded-user": "anna" };

before(async () => {
  browser = await launch();
  folder = await mkdtemp(join(tmpdir(), "taskbell-proxy-"));
  const settings = join(folder, "taskbell.toml");
  await writeFile(settings, '[auth.proxy]\naddresses = ["127.0.0.1"]\nsubject_header = "X-Forwarded-User"\ndefault_role = "user"\nvalid_s = 5\n');
  server = await serve("--config", settings);
  proxy = await startProxy(new URL(server.base));
});
after(async () => {
  await browser?.close();
  proxy?.closeAllConnections();
  proxy?.close();
  await server?.stop();
  if (folder) await rm(folder, { recursive: true, force: true });
});

/** Passes on all requests and websockets, with the name of the caller. */
async function startProxy({ hostname, port }) {
  const started = createServer((incoming, outgoing) => {
    const { method, url, headers } = incoming;
    const onward = request({ hostname, port, method, path: url, headers: { ...headers, ...named } }, (answer) => {
      outgoing.writeHead(answer.statusCode, answer.headers);
      answer.pipe(outgoing);
    });
    onward.on("error", () => outgoing.destroy());
    incoming.pipe(onward);
  });
  started.on("upgrade", ({ url, headers }, client) => {
    const lines = Object.entries({ ...headers, ...named }).map(([name, value]) => `${name}: ${value}\r\n`);
    const onward = connect(Number(port), hostname, () => onward.write(`GET ${url} HTTP/1.1\r\n${lines.join("")}\r\n`));
    for (const end of [client, onward]) end.on("error", () => (client.destroy(), onward.destroy()));
    client.pipe(onward).pipe(client);
  });
  await new Promise((resolve) => started.listen(0, "127.0.0.1", resolve));
  return started;
}

test("the socket of a page ends and begins again through the proxy, and a person notices only when the proxy lets it in no more", async () => {
  const base = `http://127.0.0.1:${proxy.address().port}`;
  const create = async (title) => {
    const response = await fetch(`${base}/v1/tasks`, { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify({ kind: "test.nobody", title }) });
    assert.equal(response.status, 201);
  };
  const sockets = [];
  const { page, bad, close } = await open(browser, { base }, "/", { before: (page) => page.on("websocket", (socket) => sockets.push(socket)) });
  await page.locator("taskbell-account", { hasText: "anna" }).waitFor();
  await page.locator(".filters[data-connection=live]").waitFor();
  await page.evaluate(async () => {
    const { store } = await import("/ui/api.js");
    window.shown = [];
    store.listen((_, { connection, counts }) => window.shown.push(counts === null ? "no counts" : connection));
  });
  await page.evaluate(() => (document.querySelector("main").dataset.same = "page"));

  let n = 0;
  for (const round of ["first", "second"]) {
    await sockets.at(-1).waitForEvent("close", { timeout: 30_000 });
    // The page may not have its next socket yet: what happens now must not be lost.
    await create(`While away, ${round}`);
    n += 1;
    await page.locator("taskbell-tasks tbody tr", { hasText: `While away, ${round}` }).waitFor();
    await page.waitForFunction((n) => document.querySelector("taskbell-bell").shadowRoot.querySelector(".counters a[data-status=queued] b").textContent === String(n), n);
    assert.equal(sockets.length, n + 1, "one new socket");
  }
  assert.deepEqual([...new Set(await page.evaluate(() => window.shown))], ["live"]);
  assert.equal(await page.locator("main[data-same=page]").count(), 1, "the page was not loaded again");
  assert.deepEqual(bad, []);

  named = {};
  await page.getByText("Your session has ended.").waitFor({ timeout: 30_000 });
  assert.equal(await page.locator("taskbell-tasks, taskbell-bell").count(), 0);
  await close();
});
