/** The errors of this package. */

/** Any error of this package. */
export class TaskbellError extends Error {
  constructor(message: string) {
    super(message);
    this.name = new.target.name;
  }
}

/** No server answered, or none that is a Taskbell server, for as long as the caller was willing to try. */
export class Unreachable extends TaskbellError {}

/** A field that can't be what it is: a JSON Pointer to it, and what it should have been. */
export interface FieldError {
  pointer: string;
  detail: string;
}

/** The server refused the request (RFC 9457). `code` is stable and meant for programs, `detail` is for people. */
export class Problem extends TaskbellError {
  constructor(
    readonly status: number,
    readonly code: string,
    readonly detail: string,
    readonly retryable: boolean,
    readonly errors: FieldError[],
  ) {
    super([`${code}: ${detail}`, ...errors.map((field) => `${field.pointer}: ${field.detail}`)].join("; "));
  }

  /** From the body of a refusal. Where that is no problem, as from a proxy, the status says what it can. */
  static read(status: number, body: unknown): Problem {
    const { code, detail, retryable, errors } = (body ?? {}) as Record<string, unknown>;
    return new Problem(
      status,
      String(code ?? `http_${status}`),
      String(detail ?? "no details were given"),
      typeof retryable === "boolean" ? retryable : status === 429 || status >= 500,
      Array.isArray(errors) ? errors : [],
    );
  }
}
