// Signing in and out, on a server that requires authentication.
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { BIN, launch, open, serve } from "./harness.mjs";

let browser, server, folder, tokens;

const command = (...args) => execFileSync(BIN, args, { encoding: "utf8" }).trim();

before(async () => {
  browser = await launch();
  folder = await mkdtemp(join(tmpdir(), "taskbell-session-"));
  const create = (role, subject) => command("token", "create", "--data", join(folder, "data"), "--role", role, "--subject", subject).split("\n").find((line) => line.startsWith("tb_"));
  tokens = { root: create("admin", "root"), anna: create("user", "anna") };
  server = await serve("--data", join(folder, "data"), "--auth", "required");
});
after(async () => {
  await browser?.close();
  await server?.stop();
  if (folder) await rm(folder, { recursive: true, force: true });
});

/** A request with a token, as a program sends it. */
async function call(token, method, path, body) {
  const headers = { authorization: `Bearer ${token}`, "content-type": "application/json" };
  const response = await fetch(server.base + path, { method, headers, body: body && JSON.stringify(body) });
  const text = await response.text();
  assert.ok(response.ok, `${method} ${path}: ${response.status} ${text}`);
  return text ? JSON.parse(text) : null;
}

const field = (page) => page.getByLabel("Token");

async function signIn(page, token) {
  await field(page).fill(token);
  await page.keyboard.press("Enter");
}

test("a wrong token is refused in words, the right one shows the page of the address, and signing out hides it again", async () => {
  const { page, bad, close } = await open(browser, server, "/?status=queued");
  await call(tokens.anna, "POST", "/v1/tasks", { kind: "test.nobody", title: "For Anna only" });
  await page.getByRole("heading", { name: "Sign in" }).waitFor();
  assert.ok(await field(page).evaluate((input) => input.matches(":focus")), "the keyboard can write at once");
  await signIn(page, `${tokens.anna.slice(0, -1)}x`);
  await page.getByRole("alert").filter({ hasText: "This token isn't valid" }).waitFor();
  assert.ok(await field(page).evaluate((input) => input.matches(":focus")));
  await signIn(page, tokens.anna);
  await page.locator("tbody tr", { hasText: "For Anna only" }).waitFor();
  assert.equal(new URL(page.url()).search, "?status=queued", "the address is kept");
  await page.locator("taskbell-account", { hasText: /anna\s+user/ }).waitFor();

  const stored = await page.evaluate(() => JSON.stringify([{ ...localStorage }, { ...sessionStorage }, document.cookie, location.href]));
  assert.ok(!/tbs?_/.test(stored), stored);
  const [cookie, ...more] = await page.context().cookies();
  assert.deepEqual([more.length, cookie.name, cookie.httpOnly, cookie.sameSite, cookie.path], [0, "taskbell", true, "Strict", "/"]);
  await page.reload();
  await page.locator("tbody tr", { hasText: "For Anna only" }).waitFor();

  await page.getByRole("button", { name: "Sign out" }).click();
  await page.getByRole("heading", { name: "Sign in" }).waitFor();
  assert.equal(await page.getByText("For Anna only").count(), 0);
  assert.deepEqual(await page.context().cookies(), []);
  assert.equal(new URL(page.url()).search, "?status=queued");
  assert.deepEqual(bad, []);
  await close();
});

test("a token that is revoked ends the open page within a second, and the page says so", async () => {
  const made = await call(tokens.root, "POST", "/v1/tokens", { subject: "bea", role: "user" });
  const { page, bad, close } = await open(browser, server);
  await signIn(page, made.token);
  await page.locator(".filters[data-connection=live]").waitFor();
  await call(tokens.root, "DELETE", `/v1/tokens/${made.id}`);
  await page.getByText("Your session has ended.").waitFor({ timeout: 5000 });
  await page.getByRole("heading", { name: "Sign in" }).waitFor();
  assert.equal(await page.locator("taskbell-tasks, taskbell-bell, taskbell-account").count(), 0);
  await signIn(page, tokens.anna);
  await page.locator("taskbell-account", { hasText: "anna" }).waitFor();
  assert.deepEqual(bad, []);
  await close();
});

test("a session that another page has ended is noticed by every page that shows it", async () => {
  const { page, bad, close } = await open(browser, server);
  await signIn(page, tokens.anna);
  await page.locator(".filters[data-connection=live]").waitFor();
  const second = await page.context().newPage();
  await second.goto(server.base);
  await second.getByRole("button", { name: "Sign out" }).click();
  await page.getByRole("heading", { name: "Sign in" }).waitFor({ timeout: 5000 });
  assert.deepEqual(bad, []);
  await close();
});

test("axe finds nothing in the form, after a refusal, and on the page of who has signed in", async () => {
  const axe = await readFile(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
  for (const colorScheme of ["light", "dark"]) {
    const { page, close } = await open(browser, server, "/", { colorScheme, viewport: { width: 360, height: 800 }, reducedMotion: "reduce" });
    const check = async (what) => {
      await page.evaluate(axe);
      const { violations } = await page.evaluate(() => globalThis.axe.run(document, { runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"] }));
      assert.deepEqual(violations.map(({ id, nodes }) => `${id}: ${nodes.map(({ target }) => target).join("; ")}`), [], `${what}, ${colorScheme}`);
      assert.equal(await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth), 0, `${what} is too wide`);
    };
    await field(page).waitFor();
    await check("the form");
    await signIn(page, "tb_wrong");
    await page.getByRole("alert").filter({ hasText: "This token isn't valid" }).waitFor();
    await check("the refusal");
    await signIn(page, tokens.anna);
    await page.locator("taskbell-account", { hasText: "anna" }).waitFor();
    await page.locator(".filters[data-connection=live]").waitFor();
    await check("the list");
    await close();
  }
});
