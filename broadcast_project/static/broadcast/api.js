// The user API: one function a request, one error for all that can go wrong.

import { text } from "./texts.js";

const MESSAGES = "/api/user/messages";
const STREAM = "/api/user/sse";

export const STREAM_URL = `${STREAM}/connect`;

export class ApiError extends Error {
  /** `status` is 0 when the server was not reached. */
  constructor(status, message) {
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

export function firstPage(query, signal) {
  return request(`${MESSAGES}?${new URLSearchParams(query)}`, { signal });
}

export function nextPage(url, signal) {
  const { pathname, search } = new URL(url, location.href); // a proxy may hide the own host
  return request(pathname + search, { signal });
}

export const markRead = (id) => post(`${MESSAGES}/read`, { broadcast_id: id });
export const markAllRead = () => post(`${MESSAGES}/read-all`, {});
export const markSeen = (ids) =>
  post(`${MESSAGES}/ack-visibility`, { broadcast_ids: ids }, { keepalive: true });
export const dismiss = (id) => post(`${MESSAGES}/dismiss`, { broadcast_id: id });
export const disconnect = (id) =>
  post(`${STREAM}/disconnect`, { connection_id: id }, { keepalive: true });

export function signOut(form) {
  const headers = { "X-CSRFToken": csrfToken() };
  return fetch(form.action, { method: "POST", headers, redirect: "manual" });
}

function post(url, data, options = {}) {
  const headers = { "Content-Type": "application/json", "X-CSRFToken": csrfToken() };
  return request(url, { ...options, method: "POST", headers, body: JSON.stringify(data) });
}

async function request(url, options) {
  const response = await reach(url, options);
  const answer = await response.json().catch(() => ({}));
  if (!response.ok) {
    const message = answer.message || text("unexpected", { status: response.status });
    throw new ApiError(response.status, message);
  }
  return answer;
}

async function reach(url, { headers, ...options }) {
  try {
    const accept = { Accept: "application/json" };
    return await fetch(url, { ...options, headers: { ...accept, ...headers } });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError(0, text("no_connection"));
  }
}

// Read at each request: signing in from another tab gives a new one.
function csrfToken() {
  return document.cookie.match(/(?:^|; )csrftoken=([^;]+)/)?.[1] ?? "";
}
