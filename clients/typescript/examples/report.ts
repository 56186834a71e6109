// Renders a report page by page behind the bell: `node report.js` is the worker, `node report.js ask` asks it.
import { setTimeout as sleep } from "node:timers/promises";
import { Client, Context, Failure, Worker } from "taskbell";

async function render(ctx: Context) {
  const { pages } = ctx.input;
  if (pages > 500) throw new Failure("too_long", "at most 500 pages", { retryable: false });
  for (let page = 1; page <= pages; page++) {
    ctx.throwIfCancelled(); // the red cross, acknowledged here
    ctx.progress(page / pages, `page ${page} of ${pages}`);
    await sleep(50);
  }
  // Can't be taken back half-way: a cancel that arrives meanwhile is answered with this name and the expected end.
  await ctx.blocking("posting the report", { expectedMs: 1_000 }, () => sleep(500));
  return { message: `${pages} pages`, result: { pages } };
}

if (process.argv[2] === "ask") {
  const client = new Client(); // TASKBELL_SERVER, or http://127.0.0.1:7070
  const { id } = await client.submit("report.render", { pages: 20 }, { title: "Report for June", maxAttempts: 3 });
  const task = await client.wait(id);
  console.log(task.status, task.outcome, task.result);
} else {
  await new Worker({ "report.render": render }, { concurrency: 4 }).run(); // until SIGTERM or Ctrl-C
}
