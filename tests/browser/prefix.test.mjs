// A server below a path of its host, on which people must sign in: everything that the page asks for is below this path.
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { BIN, launch, open, serve } from "./harness.mjs";

let browser, server, folder, token;

before(async () => {
  browser = await launch();
  folder = await mkdtemp(join(tmpdir(), "taskbell-prefix-"));
  const created = execFileSync(BIN, ["token", "create", "--data", join(folder, "data"), "--role", "user", "--subject", "anna"], { encoding: "utf8" });
  token = created.split("\n").find((line) => line.startsWith("tb_")).trim();
  server = await serve("--data", join(folder, "data"), "--auth", "required", "--path-prefix", "/taskbell");
});
after(async () => {
  await browser?.close();
  await server?.stop();
  if (folder) await rm(folder, { recursive: true, force: true });
});

/** A request of Anna's program. */
async function call(method, path, body) {
  const response = await fetch(server.base + path, { method, headers: { authorization: `Bearer ${token}`, "content-type": "application/json" }, body: JSON.stringify(body) });
  assert.ok(response.ok, `${method} ${path}: ${response.status}`);
  return response.json();
}

test("below a path prefix a person signs in, sees the list live and the page of a task, and signs out", async () => {
  const origin = new URL(server.base).origin;
  assert.equal(server.base, `${origin}/taskbell`);
  await call("POST", "/v1/tasks", { kind: "test.nobody", title: "There before" });
  const { page, bad, close } = await open(browser, server, "?status=queued");
  const sockets = [];
  page.on("websocket", (socket) => sockets.push(socket.url()));
  assert.equal(page.url(), `${server.base}/`, "the path itself leads to the page below it");
  await page.goto(`${server.base}/?status=queued`);
  await page.getByRole("heading", { name: "Sign in" }).waitFor();
  await page.getByLabel("Token").fill(token);
  await page.keyboard.press("Enter");
  const row = (title) => page.locator("taskbell-tasks tbody tr", { hasText: title });
  await row("There before").waitFor();
  assert.equal(page.url(), `${server.base}/?status=queued`, "the address is kept");

  const [cookie, ...more] = await page.context().cookies();
  assert.deepEqual([more.length, cookie.name, cookie.path, cookie.httpOnly, cookie.sameSite], [0, "taskbell", "/taskbell", true, "Strict"]);
  assert.deepEqual(await page.context().cookies(`${origin}/another`), [], "other programs on the host don't get the cookie");

  await page.locator(".filters[data-connection=live]").waitFor();
  sockets.length || (await page.waitForEvent("websocket"));
  assert.ok(sockets.every((url) => url.startsWith(`${server.base.replace("http", "ws")}/v1/live`)), `${sockets}`);
  const { id } = await call("POST", "/v1/tasks", { kind: "test.nobody", title: "Pushed to the page" });
  await row("Pushed to the page").waitFor();
  await page.locator("taskbell-bell .counters a[data-status=queued] b", { hasText: /^2$/ }).waitFor({ state: "attached" });

  await row("Pushed to the page").getByRole("link", { name: "Pushed to the page" }).click();
  await page.locator("taskbell-task").getByRole("heading", { name: "Pushed to the page" }).waitFor();
  assert.equal(new URL(page.url()).pathname, `/taskbell/tasks/${id}`);
  await call("POST", `/v1/tasks/${id}/cancel`, {});
  await page.locator("taskbell-task", { hasText: "Cancelled" }).first().waitFor();
  await page.reload();
  await page.locator("taskbell-task").getByRole("heading", { name: "Pushed to the page" }).waitFor();

  await page.getByRole("button", { name: "Sign out" }).click();
  await page.getByRole("heading", { name: "Sign in" }).waitFor();
  assert.equal(await page.getByText("Pushed to the page").count(), 0);
  assert.deepEqual(await page.context().cookies(), []);
  assert.equal(new URL(page.url()).pathname, `/taskbell/tasks/${id}`);
  assert.deepEqual(bad, []);
  await close();
});
