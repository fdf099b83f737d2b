// The live stream. `ReconnectingEventSource` is django-eventstream's client library: it comes back
// by itself and names the last event that it has. Here are the reasons not to, and the alarm clock.

/* global ReconnectingEventSource */

import { STREAM_URL } from "./api.js";

const EVENTS = [
  "CONNECTED",
  "HEARTBEAT",
  "MESSAGE",
  "MESSAGE_REMOVED",
  "READ_RECEIPT",
  "RESET",
  "CONNECTION_LIMIT_REACHED",
  "SERVER_SHUTDOWN",
  "DISCONNECTED",
];
const HEARTBEAT = 30_000;
const SILENCE = 2.5 * HEARTBEAT; // then the stream is dead, whatever the socket says
const FIRST_RETRY = 1_000; // the most that a retry waits; doubled with each failure in a row
const LAST_RETRY = 30_000;
const LOOK = 5_000; // how often the watchdog looks

/**
 * Calls `onEvent(type, data, position)` for what the server says, and `onState(state, details)`
 * with connecting, live, offline {within}, restarting {within}, limited or ended {reason}.
 */
export class Stream {
  #source = null;
  #position = null;
  #failures = 0;
  #heard = 0;
  #timer = null;
  #over = true;

  constructor({ onEvent, onState }) {
    this.onEvent = onEvent;
    this.onState = onState;
    this.connectionId = null;
    setInterval(() => this.#watch(SILENCE), LOOK);
    addEventListener("online", () => this.wake());
    addEventListener("pageshow", () => this.wake());
    document.addEventListener("visibilitychange", () => {
      if (!document.hidden) this.wake();
    });
  }

  get failures() {
    return this.#failures;
  }

  /** Open it after `position`; what was open is closed. */
  open(position) {
    this.#close();
    this.#position = position;
    this.#over = false;
    this.#heard = Date.now();
    this.onState("connecting");
    this.#source = new ReconnectingEventSource(STREAM_URL, {
      lastEventId: String(position),
      max_retry_time: FIRST_RETRY,
      eventSourceClass: this.#attempts(),
    });
    for (const type of EVENTS) {
      this.#source.addEventListener(type, (event) => this.#hear(event));
    }
  }

  /** Open it again where it stood. */
  reopen() {
    if (this.#position !== null) this.open(this.#position);
  }

  /** Where to go on when the next attempt succeeds: for when its place is refused. */
  resumeAt(position) {
    const failures = this.#failures;
    this.open(position);
    this.#failures = failures;
  }

  /** End it; only `open` and `reopen` bring it back. */
  end(state, details = {}) {
    this.#close();
    this.#over = true;
    this.onState(state, details);
  }

  /** After a sleep, or with the network back: do not wait for the next try. */
  wake() {
    if (this.#failures) this.#reopenUnlessOver();
    else this.#watch(1.5 * HEARTBEAT);
  }

  #watch(silence) {
    if (Date.now() - this.#heard > silence && !this.#timer && !this.#failures) {
      this.#reopenUnlessOver();
    }
  }

  #reopenUnlessOver() {
    if (!this.#over) this.reopen();
  }

  #close() {
    clearTimeout(this.#timer);
    this.#timer = null;
    this.#failures = 0;
    this.connectionId = null;
    this.#source?.close();
    this.#source = null;
  }

  // The browser's own retry has no back-off and differs between browsers. An attempt that fails
  // is therefore final, which leaves the retry to the library.
  #attempts() {
    const stream = this;
    return class extends EventSource {
      constructor(url, options) {
        super(url, options);
        this.addEventListener("error", () => {
          this.close();
          stream.#fail();
        });
      }
    };
  }

  #fail() {
    if (this.#over || !this.#source) return;
    const within = Math.min(FIRST_RETRY * 2 ** this.#failures, LAST_RETRY);
    this.#source.max_retry_time = within;
    this.#failures += 1;
    this.onState("offline", { within });
  }

  #hear(event) {
    this.#heard = Date.now();
    if (event.lastEventId) this.#position = event.lastEventId;
    const data = event.data ? JSON.parse(event.data) : {};
    const handle = this[event.type];
    if (handle) handle.call(this, data);
    this.onEvent(event.type, data, Number(event.lastEventId) || null);
  }

  CONNECTED({ connection_id }) {
    this.connectionId = connection_id;
    this.#failures = 0;
    this.#source.max_retry_time = FIRST_RETRY;
    this.onState("live");
  }

  CONNECTION_LIMIT_REACHED() {
    this.end("limited");
  }

  SERVER_SHUTDOWN({ retry_after }) {
    this.#close();
    this.#timer = setTimeout(() => this.reopen(), retry_after);
    this.onState("restarting", { within: retry_after });
  }

  DISCONNECTED({ reason, reconnect }) {
    if (reconnect) this.reopen();
    else this.end("ended", { reason });
  }
}
