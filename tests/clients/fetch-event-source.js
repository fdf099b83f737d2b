import { fetchWithToken, report, server } from "./shared.js";

// It is made for browsers.
globalThis.window = globalThis;
globalThis.document = { addEventListener() {}, removeEventListener() {} };
const { fetchEventSource } = await import("@microsoft/fetch-event-source");

const end = new AbortController();
await fetchEventSource(`${server}/connect`, {
  fetch: fetchWithToken,
  signal: end.signal,
  openWhenHidden: true,
  onmessage({ event, id, data }) {
    if (report(event, id, data)) end.abort();
  },
  onclose() {
    if (!end.signal.aborted) throw new Error("The server restarts: come back.");
  },
});
