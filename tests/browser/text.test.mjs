// Texts and numbers of a task on its page: nothing is hidden, nothing is rounded.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { launch, open, serve, wait } from "./harness.mjs";

let browser, server;

before(async () => {
  browser = await launch();
  server = await serve();
});
after(async () => {
  await browser?.close();
  await server?.stop();
});

const row = (page, title) => page.locator("taskbell-tasks tbody tr", { hasText: title });

test("nothing on a page turns its direction or hides: a mark stands in its place", async () => {
  const title = "safe\u202efdp.exe\u2066\u200f";
  const marked = "safe⟨U+202E⟩fdp.exe⟨U+2066⟩⟨U+200F⟩";
  const { id } = await wait(server, title, { queue: "turned", labels: { note: title }, input: { [title]: `${title}\u0007` } });
  const { page, bad, close } = await open(browser, server, `/?queue=turned&q=safe`);
  /** All that is read or heard on the page: texts, and attributes with texts, in all shadow trees, and its title. */
  const all = () => page.evaluate(() => {
    const texts = [document.title];
    const add = (node) => {
      if (node.nodeType === Node.TEXT_NODE) texts.push(node.data);
      for (const name of ["aria-label", "title", "data-tip", "placeholder"]) texts.push(node.getAttribute?.(name) ?? "");
      for (const child of [...(node.shadowRoot?.childNodes ?? []), ...node.childNodes]) add(child);
    };
    add(document.documentElement);
    return texts.join("\n");
  });
  const assertMarked = async (part) => assert.doesNotMatch(await all(), /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]/, part);
  await row(page, marked).waitFor();
  await page.locator("taskbell-bell button#bell").click();
  await page.locator(".latest li", { hasText: marked }).waitFor();
  await page.keyboard.press("Escape");
  await row(page, marked).getByRole("button", { name: `Cancel task: ${marked}` }).click();
  await page.getByRole("group", { name: `Cancel task: ${marked}` }).waitFor();
  await assertMarked("the list");
  await page.getByRole("button", { name: "Keep" }).click();

  await page.route(`**/v1/tasks/${id}/cancel`, (route) => route.fulfill({ status: 409, contentType: "application/problem+json", body: JSON.stringify({ detail: `No ${title}`, code: "no" }) }));
  await row(page, marked).locator("a.title").click();
  await page.locator(".task-head h1", { hasText: marked }).waitFor();
  await page.waitForFunction((title) => document.title.endsWith(`${title} – Taskbell`), marked);
  await page.locator(".facts .chip", { hasText: `note: ${marked}` }).waitFor();
  await page.getByRole("button", { name: `Cancel task: ${marked}` }).click();
  await page.getByRole("button", { name: "Cancel task", exact: true }).click();
  await page.getByText(`Not cancelled: No ${marked}`).waitFor();
  await assertMarked("a refused cancel");
  await page.unroute(`**/v1/tasks/${id}/cancel`);
  await server.call("POST", `/v1/tasks/${id}/cancel`, { reason: title });
  await page.locator("ol.steps li", { hasText: `“${marked}”` }).waitFor();
  await page.locator("ol.timeline > li", { hasText: `“${marked}”` }).waitFor();
  await assertMarked("a cancelled task");
  const json = await page.locator(".data pre").first().textContent();
  assert.deepEqual(JSON.parse(json), { [title]: `${title}\u0007` }, "JSON keeps its value");
  assert.deepEqual(bad, []);
  await close();
});

test("the numbers of a task's data stand on its page as they stand in the answer", async () => {
  const numbers = "[1.50, 1E5, 1e400, -0, 0.1000000000000000055, 123456789012345678901234567890]";
  const { id } = await wait(server, "Exact");
  const before = (page) => page.route(/\/v1\/tasks\/[^/]+$/, async (route) => {
    const task = await (await route.fetch()).text();
    const isTold = /"input":null/.test(task) && /"result":null/.test(task);
    assert.ok(isTold, task);
    await route.fulfill({ contentType: "application/json", body: task.replace('"input":null', `"input":${numbers}`).replace('"result":null', `"result":{"n":${numbers}}`) });
  });
  const { page, bad, close } = await open(browser, server, `/tasks/${id}`, { before });
  const shown = async (nth) => (await page.locator(".data pre").nth(nth).textContent()).replace(/\s+/g, " ");
  await page.locator(".data pre").nth(1).waitFor();
  const lines = numbers.replace("[", "[ ").replace("]", " ]");
  assert.deepEqual([await shown(0), await shown(1)], [lines, `{ "n": ${lines} }`]);
  assert.deepEqual(bad, []);
  await close();
});

test("the numbers of an input stand on the page as they were handed in", async () => {
  const input = '{"n":[1.50,1E5,1e400,-0,0.1000000000000000055,123456789012345678901234567890]}';
  const body = `{"kind":"test.nobody","title":"Exact from the start","input":${input}}`;
  const answer = await fetch(`${server.base}/v1/tasks`, { method: "POST", headers: { "content-type": "application/json" }, body });
  const { id } = await answer.json();
  const { page, bad, close } = await open(browser, server, `/tasks/${id}`);
  await page.locator(".data pre").first().waitFor();
  assert.equal((await page.locator(".data pre").first().textContent()).replace(/\s+/g, ""), input);
  await page.locator("ol.timeline summary").first().click();
  assert.ok((await page.locator("ol.timeline pre").first().textContent()).replace(/\s+/g, "").includes(input));
  assert.deepEqual(bad, []);
  await close();
});
