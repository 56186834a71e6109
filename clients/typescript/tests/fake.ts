// A server that answers as a test wants, malformed answers included, and records the requests.
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { text } from "node:stream/consumers";

export const LEASES = "/v1/leases";
export const BEAT = "/v1/leases/heartbeat";
export const ACK = "/v1/leases/cancel-ack";
export const FINISH = "/v1/leases/finish";

export interface Answer {
  status: number;
  body: string;
  headers?: Record<string, string>;
}

export const ok = (body: unknown): Answer => ({ status: 200, body: JSON.stringify(body) });
export const problem = (status: number, code: string, retryable = false, headers = {}): Answer => ({
  status,
  headers,
  body: JSON.stringify({ status, code, detail: `it is ${code}`, retryable, errors: [] }),
});

export const lease = (number: number, kind = "test") => ({
  lease: `task-${number}.1.secret`,
  task_id: `task-${number}`,
  ...{ kind, input: null, attempt: 1, deadline: "2026-01-01T00:00:00Z", left_ms: 30_000 },
  ...{ title: kind, owner: "anna", labels: {} },
});

export class FakeServer {
  toLease: unknown[] = [];
  directives = new Map<string, string>();
  asked: { path: string; body: any; text: string }[] = [];
  /** Answers that come first, by path; null closes the connection. */
  instead: Record<string, (Answer | null)[]> = {};
  /** Answers a request in place of the fake, or leaves it to the fake. */
  answer: (path: string, body: any) => Answer | Promise<Answer> | undefined = () => undefined;
  #hurried = false;
  #server: Server;
  #waiting: (() => void)[] = [];

  private constructor() {
    this.#server = createServer((request, response) => void this.#serve(request, response));
  }

  static async start(): Promise<FakeServer> {
    const fake = new FakeServer();
    await new Promise<void>((resolve) => fake.#server.listen(0, "127.0.0.1", resolve));
    return fake;
  }

  get url(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  of(path: string): any[] {
    return this.asked.filter((call) => call.path === path).map((call) => call.body);
  }

  ends(): any[] {
    return this.of(FINISH).flatMap((body) => body.items);
  }

  direct(number: number, directive: string): void {
    this.directives.set(lease(number).lease, directive);
    this.changed();
  }

  /** Ends all long polls, now and from now on. */
  hurry(): void {
    this.#hurried = true;
    this.changed();
  }

  close(): void {
    this.hurry();
    this.#server.close();
    this.#server.closeAllConnections();
  }

  changed(): void {
    for (const look of this.#waiting.splice(0)) look();
  }

  async until(holds: () => boolean, ms = 10_000, must = true): Promise<void> {
    const end = Date.now() + ms;
    while (!holds()) {
      if (Date.now() >= end) {
        if (must) throw new Error(`timed out; the requests were ${JSON.stringify(this.asked)}`);
        return;
      }
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, Math.max(end - Date.now(), 0));
        this.#waiting.push(() => (clearTimeout(timer), resolve()));
      });
    }
  }

  async #serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const sent = await text(request);
    const body = JSON.parse(sent || "null");
    const path = request.url ?? "";
    this.asked.push({ path, body, text: sent });
    this.changed();
    const instead = this.instead[path]?.shift();
    if (instead === null) return void request.socket.destroy();
    const answer = instead ?? (await this.answer(path, body)) ?? (await this.#answer(path, body));
    response.writeHead(answer.status, answer.headers).end(answer.body);
  }

  async #answer(path: string, body: any): Promise<Answer> {
    if (path === LEASES) {
      await this.#park(() => this.toLease.length > 0, body.wait_s);
      return ok({ leases: this.toLease.splice(0, body.max), position: 1 });
    }
    if (path === BEAT) {
      const due = () =>
        body.leases
          .map(({ lease, seen }: any) => ({ lease, directive: this.directives.get(lease), seen }))
          .filter(({ directive, seen }: any) => directive !== undefined && directive !== seen);
      await this.#park(() => due().length > 0, body.wait_s);
      return ok({ directives: due(), deadline: null, left_ms: 30_000 });
    }
    if (path === ACK) return { status: 204, body: "" };
    return ok({ items: body.items.map((item: any) => ({ status: item.outcome })), position: 2 });
  }

  #park(holds: () => boolean, waitS: number): Promise<void> {
    return this.until(() => this.#hurried || holds(), waitS * 1000, false);
  }
}
