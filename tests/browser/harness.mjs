// A real server with a folder of its own, and a real browser. What is missing fails the tests.
import { spawn } from "node:child_process";
import { mkdir, mkdtemp, rm, truncate, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { chromium } from "playwright-core";

export const BIN = process.env.TASKBELL_BIN ?? fileURLToPath(new URL("../../target/debug/taskbell", import.meta.url));
const FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"];

export const launch = () => chromium.launch({ executablePath: process.env.CHROMIUM ?? process.env.TASKBELL_CHROMIUM ?? "/usr/bin/chromium", args: FLAGS });

/** Starts `taskbell serve` on a port of its choice; waits for the line that says where. */
export async function serve(...flags) {
  const root = await mkdtemp(join(tmpdir(), "taskbell-browser-"));
  const content = join(root, "content");
  await mkdir(content);
  const child = spawn(BIN, ["serve", "--listen", "127.0.0.1:0", ...(flags.includes("--data") ? [] : ["--data", join(root, "data")]), "--content-root", content, ...flags], { stdio: ["ignore", "pipe", "inherit"] });
  const base = await new Promise((resolve, reject) => {
    child.once("error", reject);
    child.once("exit", (code) => reject(new Error(`${BIN} ended with ${code} before it listened`)));
    createInterface({ input: child.stdout }).on("line", (line) => {
      const found = /listening on (http:\/\/\S+)/.exec(line);
      if (found) resolve(found[1]);
    });
  });
  const call = async (method, path, body) => {
    const response = await fetch(base + path, { method, headers: { "content-type": "application/json" }, body: body && JSON.stringify(body) });
    const text = await response.text();
    if (!response.ok) throw new Error(`${method} ${path}: ${response.status} ${text}`);
    return text ? JSON.parse(text) : null;
  };
  const stop = async () => {
    const over = new Promise((resolve) => (child.exitCode === null ? child.once("exit", resolve) : resolve()));
    child.kill("SIGTERM");
    await over;
    await rm(root, { recursive: true, force: true });
  };
  return { base, content, call, stop };
}

/** Waits for work of a kind that nobody does: it stays queued. */
export const wait = (server, title, more = {}) => server.call("POST", "/v1/tasks", { kind: "test.nobody", title, ...more });

/** A tree of one small file and one of `bytes`, to be copied to one target. */
export async function distribute(server, name, bytes, title = `Distribute ${name}`) {
  const source = join(server.content, name);
  await mkdir(join(source, "big"), { recursive: true });
  await writeFile(join(source, "a-readme.txt"), "small");
  await writeFile(join(source, "big", "video.bin"), "");
  await truncate(join(source, "big", "video.bin"), bytes);
  const target = join(server.content, `${name}-target`);
  return server.call("POST", "/v1/tasks", { kind: "content.distribute", title, input: { source, targets: [target] } });
}

/** The task, when `holds` is true of it; asks the server, which is what the page is compared with. */
export async function until(server, id, holds, ms = 30_000) {
  const stop = Date.now() + ms;
  for (;;) {
    const task = await server.call("GET", `/v1/tasks/${id}`);
    if (holds(task)) return task;
    if (Date.now() > stop) throw new Error(`the task stayed ${JSON.stringify(task)}`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

/** A page that keeps what must never happen: errors, CSP violations, dialogs, requests to anywhere else. */
export async function open(browser, server, path = "/", options = {}) {
  const context = await browser.newContext({ viewport: { width: 1280, height: 900 }, locale: "en-GB", ...options });
  const page = await context.newPage();
  const bad = [];
  page.on("pageerror", (error) => bad.push(`error: ${error.message}`));
  page.on("dialog", (dialog) => (bad.push(`dialog: ${dialog.message()}`), dialog.dismiss()));
  page.on("request", (request) => {
    if (!request.url().startsWith(server.base) && !request.url().startsWith("data:")) bad.push(`request: ${request.url()}`);
  });
  await page.exposeFunction("reportViolation", (what) => bad.push(`csp: ${what}`));
  await page.addInitScript(() => {
    addEventListener("securitypolicyviolation", (event) => window.reportViolation(`${event.violatedDirective} ${event.blockedURI} ${event.sample}`));
  });
  if (options.before) await options.before(page);
  await page.goto(server.base + path);
  return { page, bad, close: () => context.close() };
}
