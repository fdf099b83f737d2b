import { EventSource } from "eventsource";

import { EVENTS, fetchWithToken, report, server } from "./shared.js";

const source = new EventSource(`${server}/connect`, { fetch: fetchWithToken });
for (const name of EVENTS) {
  source.addEventListener(name, ({ type, lastEventId, data }) => {
    if (report(type, lastEventId, data)) source.close();
  });
}
