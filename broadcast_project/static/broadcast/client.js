// A person's messages, live, on any page: docs/client.md tells how to use it.
//
// One connection serves all tabs of a browser. The tab that holds a lock (Web Locks) leads: it has
// the stream and hands each event to the others (BroadcastChannel). When it goes, the browser gives
// the lock to the next tab, which goes on after the last position that it saw.

import { Api } from "./api.js";
import { inLanguage } from "./language.js";

export { Api, ApiError } from "./api.js";

const OF_THE_LOG = ["MESSAGE", "MESSAGE_REMOVED", "READ_RECEIPT", "QUIET_HOURS_ENDED"]; // each once
const NOTICES = [
  "CONNECTED",
  "HEARTBEAT",
  "RESET",
  "CONNECTION_LIMIT_REACHED",
  "SERVER_SHUTDOWN",
  "DISCONNECTED",
];
const HEARTBEAT = 30_000; // of a server that has not said yet how often it is heard
const SILENCE = 2.5; // heartbeats; then the stream is dead, whatever the socket says
const FIRST_RETRY = 1_000; // the most that a retry waits; doubled with each failure in a row
const LAST_RETRY = 30_000;
const LOOK = 5_000; // how often the watchdog looks
const FAILURES_BEFORE_DOUBT = 3;
const LAST_WORD = 2_000; // that a sign-out waits for the server to hear of it
const RECENT = 200; // events kept for tabs that join, or missed some

/**
 * Dispatches MESSAGE, MESSAGE_REMOVED and READ_RECEIPT with `detail` {data, position}; what quiet
 * hours held, as MESSAGE with the position of their end; RESET when
 * the messages must be fetched again; and `state` with `detail` {state, …}: connecting, live,
 * offline {within}, restarting {within}, limited, ended {reason} or signed_out {message}.
 */
export class BroadcastClient extends EventTarget {
  #tab = String(Math.random());
  #user = null;
  #position = null;
  #languages = []; // in which the person reads, best first
  #recent = []; // events of the log after `#complete`, all of them
  #complete = null;
  #channel = null; // to the other tabs
  #leaving = null; // the AbortController that gives the lock back
  #leads = false;
  #source = null;
  #attempt = null;
  #connectionId = null;
  #held = []; // messages without a position of their own, until the end of their quiet hours
  #timer = null;
  #heard = 0;
  #heartbeat = HEARTBEAT;
  #failures = 0;
  #doubted = false;
  #shown = { state: "closed" };

  /** `url` and `token` as for `Api`. */
  constructor(options = {}) {
    super();
    this.api = new Api(options);
    setInterval(() => this.#watch(SILENCE), LOOK);
    addEventListener("online", () => this.wake());
    addEventListener("offline", () => this.#source && this.#fail());
    document.addEventListener("visibilitychange", () => document.hidden || this.wake());
    addEventListener("pagehide", () => this.#pause());
    addEventListener("pageshow", ({ persisted }) => persisted && this.#user && this.#join());
  }

  get state() {
    return this.#shown.state;
  }

  /**
   * Follow the stream from where an answer of `api.messages()` ends, in the languages by which it
   * was chosen: nothing falls between.
   */
  follow({ user, position, languages = navigator.languages }) {
    this.#leave();
    this.#user = user;
    this.#languages = languages;
    this.#startAfter(position);
    this.#join();
  }

  /** With the network back, or a person who asks: do not wait for the next try. */
  wake() {
    this.#post({ wake: true });
    if (this.#leads && this.#failures) this.#connect();
    else this.#watch(1.5);
  }

  /** End it; only `follow` brings it back. */
  close(state = "closed", details = {}) {
    this.#leave();
    this.#user = null;
    this.#show(state, details);
  }

  // Between tabs

  #join({ steal = false } = {}) {
    const name = `broadcast ${this.api.url} ${this.#user}`;
    this.#heard = Date.now();
    this.#show("connecting");
    this.#leaving = new AbortController();
    const { signal } = this.#leaving;
    const left = new Promise((resolve) => signal.addEventListener("abort", resolve));
    const lead = () => {
      if (!signal.aborted) this.#lead();
      return left;
    };
    if (!navigator.locks) return lead(); // without HTTPS each tab has a stream of its own
    this.#channel = new BroadcastChannel(name);
    this.#channel.addEventListener("message", ({ data }) => this.#hearTab(data));
    this.#ask();
    navigator.locks.request(name, steal ? { steal } : { signal }, lead).catch((error) => {
      if (signal.aborted) return; // it has left
      if (error.name === "AbortError") this.#rejoin(); // stolen, as this tab slept
      else lead(); // forbidden here, as in a sandbox
    });
  }

  #rejoin(options) {
    this.#leave();
    this.#join(options);
  }

  #leave() {
    this.#leaving?.abort();
    this.#leaving = null;
    this.#channel?.close();
    this.#channel = null;
    this.#leads = false;
    this.#disconnect();
  }

  #pause() {
    if (this.#connectionId) this.api.disconnect(this.#connectionId).catch(() => null);
    this.#leave();
  }

  #lead() {
    this.#leads = true;
    this.#failures = 0;
    this.#doubted = false;
    this.#post({ leads: true });
    this.#connect();
  }

  #post(message) {
    this.#channel?.postMessage(message);
  }

  #ask() {
    this.#post({ ask: this.#tab, after: this.#position });
  }

  #hearTab({ to, event, shown, heartbeat, ask, after, leads, wake }) {
    if (to && to !== this.#tab) return;
    if (event || shown) this.#heard = Date.now();
    if (heartbeat) this.#heartbeat = heartbeat;
    if (event) this.#take(event);
    if (shown?.state === "signed_out") this.close("signed_out");
    else if (shown && !this.#leads) this.#show(shown.state, shown);
    if (leads) this.#ask();
    if (wake && this.#leads) this.wake();
    if (ask && this.#leads) this.#answer(ask, after);
  }

  #answer(to, after) {
    const missed = this.#recent.filter(({ position }) => position > after);
    const reset = { type: "RESET", data: { position: this.#position } };
    for (const event of after < this.#complete ? [reset] : missed) this.#post({ to, event });
    this.#post({ to, shown: this.#shown, heartbeat: this.#heartbeat });
  }

  // The stream, in the tab that leads

  async #connect() {
    this.#disconnect();
    const attempt = (this.#attempt = {});
    this.#heard = Date.now();
    if (!this.#failures) this.#tellState("connecting");
    try {
      const source = await this.api.stream(this.#user, this.#position);
      if (attempt !== this.#attempt) return source.close();
      this.#listen(source);
    } catch (error) {
      if (attempt === this.#attempt) this.#fail(error);
    }
  }

  #listen(source) {
    this.#source = source;
    for (const type of [...OF_THE_LOG, ...NOTICES]) {
      source.addEventListener(type, (event) => source === this.#source && this.#hear(event));
    }
    // The browser's own retry has no back-off, differs between browsers and knows no new token.
    source.addEventListener("error", () => source === this.#source && this.#fail());
  }

  #disconnect() {
    clearTimeout(this.#timer);
    this.#timer = null;
    this.#attempt = null;
    this.#connectionId = null;
    this.#held = [];
    this.#source?.close();
    this.#source = null;
  }

  #fail(error = null) {
    if (error?.signedOut) return this.#signOut();
    const within = Math.min(FIRST_RETRY * 2 ** this.#failures, LAST_RETRY);
    this.#failures += 1;
    this.#retry(Math.random() * within);
    this.#tellState("offline", { within });
    if (this.#failures >= FAILURES_BEFORE_DOUBT) this.#doubt();
  }

  #retry(wait) {
    this.#disconnect();
    this.#timer = setTimeout(() => this.#connect(), wait);
  }

  /**
   * EventSource does not say why it fails, so ask what does: a sign-out shows, and a place in the
   * stream that the server refuses is given up, once, for the place where the answer ends.
   */
  async #doubt() {
    try {
      const { user, position } = await this.api.messages({ limit: 1 });
      if (!this.#leads || !this.#failures) return;
      if (user !== this.#user) this.#signOut();
      else if (!this.#doubted) this.#startAgain(position);
    } catch (error) {
      if (error.signedOut && this.#leads) this.#signOut();
    }
  }

  #startAgain(position) {
    this.#doubted = true;
    this.#tell({ type: "RESET", data: { position } });
    this.#connect();
  }

  #watch(beats) {
    // A tab that does not get through is heard less often than a stream.
    const heartbeat = this.state === "live" ? this.#heartbeat : HEARTBEAT;
    if (Date.now() - this.#heard < Math.max(beats * heartbeat, LOOK)) return;
    if (this.#leads && this.#attempt) this.#connect();
    // The tab that leads is suspended, as phones do with those that nobody looks at.
    if (!this.#leads && this.#channel && !document.hidden) this.#rejoin({ steal: true });
  }

  #tellState(state, details = {}) {
    this.#post({ shown: { ...details, state } });
    this.#show(state, details);
  }

  #signOut() {
    this.#post({ shown: { state: "signed_out" } });
    this.close("signed_out");
  }

  // Events

  #hear({ type, data: text, lastEventId }) {
    this.#heard = Date.now();
    const data = JSON.parse(text);
    if (data.held) return this.#held.push(data);
    if (type === "QUIET_HOURS_ENDED") data.messages = this.#held.splice(0);
    const position = OF_THE_LOG.includes(type) ? Number(lastEventId) : null;
    this.#tell({ type, data, position, previous: this.#position });
  }

  #tell(event) {
    this.#post(event.type === "HEARTBEAT" ? { shown: this.#shown } : { event });
    this.#take(event);
  }

  #take({ type, data, position = null, previous = null }) {
    if (position !== null) {
      if (position <= this.#position) return;
      if (previous > this.#position) return this.#ask(); // the tab that leads has what is missing
      this.#remember({ type, data, position });
    }
    if (type === "RESET") this.#startAfter(data.position);
    const held = type === "QUIET_HOURS_ENDED" ? data.messages : [];
    for (const message of held) this.#dispatch("MESSAGE", { data: this.#read(message), position });
    const read = type === "MESSAGE" ? this.#read(data) : data;
    this.#dispatch(type, { data: read, position });
    this.#obey(type, read);
  }

  /** The event has all its languages: tabs that read another one share the stream. */
  #read(message) {
    this.api.trace(message);
    return inLanguage(message, this.#languages);
  }

  #dispatch(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }

  #obey(type, data) {
    if (type === "MESSAGE" && data.force_logoff) return this.#logOff(data);
    if (type === "CONNECTED" && data.heartbeat) this.#heartbeat = data.heartbeat * 1_000;
    if (type === "CONNECTION_LIMIT_REACHED") this.close("limited");
    if (type === "DISCONNECTED" && !data.reconnect) this.close("ended", { reason: data.reason });
    if (type === "DISCONNECTED" && data.reconnect) {
      this.dispatchEvent(new CustomEvent("RESET", { detail: {} })); // they may see others now
    }
    if (!this.#leads) return;
    if (type === "CONNECTED") this.#connected(data);
    if (type === "DISCONNECTED") this.#connect();
    if (type === "SERVER_SHUTDOWN") {
      this.#retry(data.retry_after);
      this.#tellState("restarting", { within: data.retry_after });
    }
  }

  /** Leave at once, and say that it arrived while there is a session to say so with. */
  async #logOff(message) {
    this.#leave();
    this.#user = null;
    const said = this.api.markSeen([message.broadcast_id]).catch(() => null);
    await Promise.race([said, new Promise((resolve) => setTimeout(resolve, LAST_WORD))]);
    this.close("signed_out", { message });
  }

  #connected({ connection_id }) {
    this.#connectionId = connection_id;
    this.#failures = 0;
    this.#doubted = false;
    this.#tellState("live");
  }

  #remember(event) {
    this.#position = event.position;
    this.#recent.push(event);
    if (this.#recent.length > RECENT) this.#complete = this.#recent.shift().position;
  }

  #startAfter(position) {
    this.#position = this.#complete = position;
    this.#recent = [];
  }

  #show(state, details = {}) {
    if (state === "live" && state === this.state) return;
    this.#shown = { ...details, state };
    this.dispatchEvent(new CustomEvent("state", { detail: this.#shown }));
  }
}
