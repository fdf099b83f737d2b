// The user API: one method a request, one error for all that can go wrong.

const MESSAGES = "/api/user/messages";
const STREAM = "/api/user/sse";
const TRACES = 200; // messages of which is known what brought them

export class ApiError extends Error {
  /** `status` is 0 when the server was not reached; `message` is the server's, or empty. */
  constructor(status, message = "") {
    super(message);
    this.status = status;
  }

  get signedOut() {
    return this.status === 401;
  }

  get passing() {
    return this.status === 0 || this.status === 429 || this.status >= 500;
  }
}

export class Api {
  #askToken;
  #token = null;
  #language;
  #traces = new Map(); // id of a message → the trace that brought it

  /**
   * `url` is the origin of the server; unless given, that of this file. `token` is a function that
   * answers a new token, or a promise of one; without it, the session cookie says who it is.
   * `language` is the one to read; without it, the browser's.
   */
  constructor({ url = new URL(import.meta.url).origin, token = null, language = "" } = {}) {
    this.url = url;
    this.#askToken = token;
    this.#language = language;
  }

  /** What is said about this message from now on belongs to its trace. */
  trace({ broadcast_id, traceparent }) {
    if (!traceparent) return;
    this.#traces.set(broadcast_id, traceparent);
    if (this.#traces.size > TRACES) this.#traces.delete(this.#traces.keys().next().value);
  }

  messages(query = {}, signal = undefined) {
    if (this.#language) query = { language: this.#language, ...query };
    return this.#request(`${MESSAGES}?${new URLSearchParams(query)}`, { signal });
  }

  nextPage(url, signal = undefined) {
    const { pathname, search } = new URL(url, this.url); // a proxy may hide the own host
    return this.#request(pathname + search, { signal });
  }

  markRead(id) {
    return this.#post(`${MESSAGES}/read`, { broadcast_id: id });
  }

  markAllRead() {
    return this.#post(`${MESSAGES}/read-all`, {});
  }

  markSeen(ids) {
    return this.#post(`${MESSAGES}/ack-visibility`, { broadcast_ids: ids }, { keepalive: true });
  }

  /** It has been taken note of, where it asks for that; it counts as read. */
  acknowledge(id) {
    return this.#post(`${MESSAGES}/acknowledge`, { broadcast_id: id });
  }

  dismiss(id) {
    return this.#post(`${MESSAGES}/dismiss`, { broadcast_id: id });
  }

  disconnect(id) {
    return this.#post(`${STREAM}/disconnect`, { connection_id: id }, { keepalive: true });
  }

  /** The stream of this person after a position: an EventSource that can send no headers. */
  async stream(user, position) {
    const query = new URLSearchParams({ user, last_event_id: position });
    if (this.#askToken) query.set("token", await this.#renew());
    const withCredentials = !this.#askToken;
    return new EventSource(`${this.url}${STREAM}/connect?${query}`, { withCredentials });
  }

  #post(path, data, options = {}) {
    const headers = { "Content-Type": "application/json" };
    const ids = data.broadcast_ids ?? [data.broadcast_id];
    const traceparent = ids.map((id) => this.#traces.get(id)).find(Boolean);
    if (traceparent) headers.traceparent = traceparent;
    return this.#request(path, { ...options, method: "POST", headers, body: JSON.stringify(data) });
  }

  async #request(path, options) {
    let response = await this.#fetch(path, options);
    if (response.status === 401 && this.#askToken) {
      this.#token = null; // it has expired
      response = await this.#fetch(path, options);
    }
    const answer = await response.json().catch(() => ({}));
    if (!response.ok) throw new ApiError(response.status, answer.message);
    return answer;
  }

  async #fetch(path, options) {
    const headers = { Accept: "application/json", ...options.headers };
    if (this.#askToken) headers.Authorization = `Bearer ${this.#token ?? (await this.#renew())}`;
    else if (options.method) headers["X-CSRFToken"] = csrfToken();
    const credentials = this.#askToken ? "omit" : "include";
    return reach(() => fetch(this.url + path, { ...options, headers, credentials }));
  }

  async #renew() {
    return (this.#token = await reach(this.#askToken));
  }
}

async function reach(request) {
  try {
    return await request();
  } catch (error) {
    if (error instanceof ApiError || error.name === "AbortError") throw error;
    throw new ApiError(0);
  }
}

// Read at each request: signing in from another tab gives a new one.
export function csrfToken() {
  return document.cookie.match(/(?:^|; )csrftoken=([^;]+)/)?.[1] ?? "";
}
