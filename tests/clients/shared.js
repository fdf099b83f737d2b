// What the clients in JavaScript have in common; `node CLIENT.js http://server/api/user/sse`.

export const server = process.argv[2];
export const EVENTS = [
  "CONNECTED",
  "MESSAGE",
  "RESET",
  "CONNECTION_LIMIT_REACHED",
  "SERVER_SHUTDOWN",
  "DISCONNECTED",
];

/** `fetch` with a new token: that of the last connect has expired by now. */
export async function fetchWithToken(url, options) {
  const Authorization = `Bearer ${await token()}`;
  return fetch(url, { ...options, headers: { ...options.headers, Authorization } });
}

async function token() {
  const headers = { Authorization: `Basic ${btoa("reader:reader")}` };
  const response = await fetch(`${server}/token`, { method: "POST", headers });
  if (!response.ok) throw new Error(`No token: ${response.status}`);
  return (await response.json()).token;
}

/** Print an event; whether the client is meant to stay away after it. */
export function report(event, id, data) {
  console.log(`${event} ${id || "-"} ${data}`);
  const { force_logoff, reconnect } = JSON.parse(data);
  return force_logoff === true || reconnect === false || event === "CONNECTION_LIMIT_REACHED";
}
