// The real server, with a folder of its own; what is missing fails the tests.
import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { Client, type Task } from "taskbell";

/** The folder of the package; this runs from `dist/tests`. */
export const HERE = fileURLToPath(new URL("../../", import.meta.url));
const BIN = process.env["TASKBELL_BIN"] ?? join(HERE, "../../target/debug/taskbell");

export class Server {
  url = "";
  #folder = "";
  #process!: ChildProcess;

  constructor(readonly flags: string[] = []) {}

  static async start(...flags: string[]): Promise<Server> {
    const server = new Server(flags);
    server.#folder = await mkdtemp(join(tmpdir(), "taskbell-typescript-"));
    await server.start();
    return server;
  }

  get client(): Client {
    return new Client({ server: this.url });
  }

  /** On a free port; again on the same one, with the same data, after a `kill`. */
  async start(): Promise<void> {
    const listen = this.url.split("/").at(-1) || "127.0.0.1:0";
    this.#process = spawn(BIN, ["serve", "--listen", listen, "--data", join(this.#folder, "data"), ...this.flags], {
      cwd: this.#folder,
      env: { ...process.env, TASKBELL_LOG: "error" },
      stdio: ["ignore", "pipe", "inherit"],
    });
    const lines = createInterface({ input: this.#process.stdout! });
    const [line] = await Promise.race([once(lines, "line"), once(this.#process, "exit").then(() => ["it ended"])]);
    assert.match(String(line), /^listening on http/);
    this.url = String(line).split(" ").at(-1)!;
  }

  async kill(): Promise<void> {
    const over = once(this.#process, "exit");
    this.#process.kill("SIGKILL");
    await over;
  }

  async close(): Promise<void> {
    await this.kill();
    await rm(this.#folder, { recursive: true, force: true });
  }

  async events(id: string): Promise<string[]> {
    const answer: any = await (await fetch(`${this.url}/v1/tasks/${id}/events`)).json();
    return answer.items.map((event: any) => event.type);
  }

  async post(path: string, body: unknown): Promise<any> {
    const headers = { "content-type": "application/json" };
    return (await fetch(this.url + path, { method: "POST", headers, body: JSON.stringify(body) })).json();
  }

  /** The task, as soon as this is true of it. */
  async until(id: string, holds: (task: Task) => unknown, ms = 20_000): Promise<Task> {
    const end = Date.now() + ms;
    for (;;) {
      const task = await this.client.get(id);
      if (holds(task)) return task;
      assert.ok(Date.now() < end, `in vain: ${JSON.stringify(task)}`);
      await sleep(10);
    }
  }
}

/** Something to wait for, and what ends the wait. */
export function gate(): { opened: Promise<void>; open: () => void } {
  let open = () => {};
  const opened = new Promise<void>((resolve) => (open = resolve));
  return { opened, open };
}
