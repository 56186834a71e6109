/** Requests over https to a server whose certificate is of an authority in a file: `fetch` can't be told of one. */
import { readFileSync } from "node:fs";
import { Agent, request } from "node:https";
import { rootCertificates } from "node:tls";

export interface Answer {
  status: number;
  retryAfter: string;
  text: string;
}

export interface Request {
  url: string;
  method: string;
  headers: Headers;
  body: string | null;
  signal: AbortSignal;
}

/** An idle connection is closed before the server does it, which is after 5 s. */
const IDLE_MS = 3_000;

/** An agent that trusts the authorities of this PEM file besides those that Node knows. */
export function trusting(caFile: string): Agent {
  const authorities = readFileSync(caFile, "utf8");
  if (!authorities.includes("-----BEGIN CERTIFICATE-----")) throw new TypeError(`no certificates in ${caFile}`);
  return new Agent({ ca: [...rootCertificates, authorities], keepAlive: true, timeout: IDLE_MS });
}

/** Sends the request and reads the whole answer. Redirects are not followed. */
export function send(agent: Agent, { url, method, headers, body, signal }: Request): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const sent: Record<string, string> = Object.fromEntries(headers);
    if (body !== null) sent["content-length"] = String(Buffer.byteLength(body));
    const asked = request(url, { agent, method, headers: sent, signal }, (answer) => {
      const parts: Buffer[] = [];
      answer.on("data", (part: Buffer) => parts.push(part));
      answer.on("error", reject);
      answer.on("end", () => {
        const retryAfter = answer.headers["retry-after"] ?? "";
        resolve({ status: answer.statusCode ?? 0, retryAfter, text: Buffer.concat(parts).toString("utf8") });
      });
    });
    asked.on("error", (error) => reject(signal.aborted ? (signal.reason ?? error) : error));
    asked.end(body ?? undefined);
  });
}
