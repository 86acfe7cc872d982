/** The HTTP surface, one method per route. Every call has a deadline and fails with a `Problem`. */

const DEADLINE_MS = 30_000;

/** An answer that is not 2xx (RFC 9457), or no answer at all: then `status` is 0 and `retryable` is true. */
export class Problem extends Error {
  constructor(status, body = {}) {
    super(sentence(body.detail || body.title || `The server answered ${status}.`));
    this.status = status;
    this.code = body.code ?? null;
    this.retryable = body.retryable ?? (status === 0 || status === 429 || status >= 500);
    this.body = body;
  }
}

/** Details begin as they please; on the page they stand after a full stop. */
function sentence(text) {
  return text.charAt(0).toUpperCase() + text.slice(1);
}

export class Api {
  #key;
  #onUnauthorized;

  /** `onUnauthorized(problem)` is called on every 401, beside the error that the caller gets. */
  constructor(key, onUnauthorized) {
    this.#key = key;
    this.#onUnauthorized = onUnauthorized;
  }

  sessions(after) {
    return this.#json("GET", `/sessions?limit=20${after ? `&after=${encodeURIComponent(after)}` : ""}`);
  }

  session(id) {
    return this.#json("GET", `/sessions/${encodeURIComponent(id)}`);
  }

  deleteSession(id) {
    return this.#json("DELETE", `/sessions/${encodeURIComponent(id)}`);
  }

  models() {
    return this.#json("GET", "/models");
  }

  /** A cost report; `params` are those of the route. */
  costs(params) {
    return this.#json("GET", `/costs?${new URLSearchParams(params)}`);
  }

  /** The same as a file: `params.format` is csv or parquet. */
  async costFile(params) {
    return (await this.#send("GET", `/costs?${new URLSearchParams(params)}`, {})).blob();
  }

  /** Hand a message in; what becomes of it is read from the session's events. The same key again changes nothing. */
  submit(body, key) {
    return this.#json("POST", "/chat", { body, headers: { Prefer: "respond-async", "Idempotency-Key": key } });
  }

  cancel(turnId) {
    return this.#json("POST", `/turns/${encodeURIComponent(turnId)}/cancel`);
  }

  /** Change what a message says that waits. */
  edit(sessionId, messageId, message) {
    return this.#json("PATCH", waiting(sessionId, messageId), { body: { message } });
  }

  /** Take a message back that waits. */
  withdraw(sessionId, messageId) {
    return this.#json("DELETE", waiting(sessionId, messageId));
  }

  /** `order` is pause or resume. */
  control(sessionId, order) {
    return this.#json("POST", `/sessions/${encodeURIComponent(sessionId)}/${order}`);
  }

  /** A new session with the past of this one, as far as the body says. The same key again finds the same one. */
  fork(sessionId, body, key) {
    const headers = { "Idempotency-Key": key };
    return this.#json("POST", `/sessions/${encodeURIComponent(sessionId)}/fork`, { body, headers });
  }

  pendingApprovals(sessionId) {
    return this.#json("GET", `/approvals?session_id=${encodeURIComponent(sessionId)}&status=pending&limit=100`);
  }

  approval(id) {
    return this.#json("GET", `/approvals/${encodeURIComponent(id)}`);
  }

  decide(id, body) {
    return this.#json("POST", `/approvals/${encodeURIComponent(id)}`, { body });
  }

  files(sessionId, limit) {
    return this.#json("GET", `/sessions/${encodeURIComponent(sessionId)}/files?limit=${limit}`);
  }

  /** The bytes of a file, however long that takes. */
  async file(sessionId, path) {
    return (await this.#send("GET", workspace(sessionId, path), {})).blob();
  }

  putFile(sessionId, path, content) {
    return this.#send("PUT", workspace(sessionId, path), { content });
  }

  /** Remove a file, or a folder with all that is in it. */
  removeFile(sessionId, path) {
    return this.#json("DELETE", `${workspace(sessionId, path)}?recursive=true`);
  }

  eventPage(sessionId, after, signal) {
    const path = `/sessions/${encodeURIComponent(sessionId)}/events?after=${after}&limit=100`;
    return this.#json("GET", path, { signal });
  }

  /** The open response of a session's event stream; the caller reads its body and watches its pulse. */
  eventStream(sessionId, lastSeq, signal) {
    const headers = { Accept: "text/event-stream", "Last-Event-ID": String(lastSeq) };
    return this.#send("GET", `/sessions/${encodeURIComponent(sessionId)}/events`, { headers, signal });
  }

  async #json(method, path, { signal, ...options } = {}) {
    const deadline = AbortSignal.timeout(DEADLINE_MS);
    const response = await this.#send(method, path, {
      ...options,
      signal: signal ? AbortSignal.any([signal, deadline]) : deadline,
    });
    return response.status === 204 ? null : response.json();
  }

  async #send(method, path, { body, content, headers, signal }) {
    const request = { method, signal, cache: "no-store", headers: { Authorization: `Bearer ${this.#key}`, ...headers } };
    if (content) request.body = content;
    if (body) {
      request.body = JSON.stringify(body);
      request.headers["Content-Type"] = "application/json";
    }
    const response = await fetch(`/api/v1${path}`, request).catch((cause) => {
      throw new Problem(0, { detail: "The server cannot be reached.", cause });
    });
    if (response.ok) return response;
    const problem = new Problem(response.status, await response.json().catch(() => ({})));
    if (problem.status === 401) this.#onUnauthorized(problem);
    throw problem;
  }
}

function workspace(sessionId, path) {
  return `/sessions/${encodeURIComponent(sessionId)}/files/${path.split("/").map(encodeURIComponent).join("/")}`;
}

function waiting(sessionId, messageId) {
  return `/sessions/${encodeURIComponent(sessionId)}/inbox/${encodeURIComponent(messageId)}`;
}

/** The open /health route, which answers with a body whatever the status; null when there is no answer. */
export async function health() {
  try {
    return await (await fetch("/health", { cache: "no-store", signal: AbortSignal.timeout(10_000) })).json();
  } catch {
    return null;
  }
}
