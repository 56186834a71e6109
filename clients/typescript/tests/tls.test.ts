// Client and worker over https, with the authority of the tests.
import assert from "node:assert/strict";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { Client, Unreachable, Worker } from "taskbell";
import { HERE, Server } from "./server.js";

const certs = (name: string) => join(HERE, "../../tests/tls/certs", name);
const caFile = certs("ca.pem");

let server: Server;
let client: Client;

before(async () => {
  server = await Server.start("--tls-cert", certs("first.pem"), "--tls-key", certs("first.key"));
  client = new Client({ server: server.url, caFile });
});

after(() => server.close());

test("a task is submitted, done and waited for", async () => {
  assert.match(server.url, /^https:/);
  const double = async (ctx: { input: any }) => ({ result: ctx.input * 2 });
  const worker = new Worker({ "ts.double": double }, { client, graceMs: 2_000, waitMs: 200, signals: false });
  const running = worker.run();
  const task = await client.wait((await client.submit("ts.double", 21)).id, { signal: AbortSignal.timeout(20_000) });
  assert.deepEqual([task.status, task.result], ["succeeded", 42]);
  worker.stop();
  await running;
});

test("a call is given up when its signal says so", async () => {
  const task = await client.submit("nobody.does");
  await assert.rejects(client.wait(task.id, { signal: AbortSignal.timeout(200) }));
  assert.equal((await client.cancel(task.id)).status, "cancelled");
});

test("the variable names the file", async () => {
  process.env["TASKBELL_CA_FILE"] = caFile;
  const named = new Client({ server: server.url });
  delete process.env["TASKBELL_CA_FILE"];
  assert.equal((await named.submit("nobody.does")).status, "queued");
});

test("a server that is not trusted gets no request", async () => {
  const refused = (options: { server: string; caFile?: string }) =>
    assert.rejects(new Client({ ...options, patienceMs: 100 }).submit("nobody.does"), Unreachable);
  await refused({ server: server.url });
  await refused({ server: server.url, caFile: certs("other-ca.pem") });
  const elsewhere = await Server.start("--tls-cert", certs("elsewhere.pem"), "--tls-key", certs("elsewhere.key"));
  await refused({ server: elsewhere.url, caFile });
  await elsewhere.close();
  assert.throws(() => new Client({ server: server.url, caFile: "/nowhere/ca.pem" }), /ENOENT/);
  assert.throws(() => new Client({ server: server.url, caFile: certs("first.key") }), /no certificates/);
});
