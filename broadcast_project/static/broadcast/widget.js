// A bell with the messages of a person, for any page: docs/client.md tells how to embed it.

import { ApiError, BroadcastClient } from "./client.js";
import { fillBody } from "./html.js";
import { SeenReporter } from "./seen.js";
import { keepMomentsFresh, showMoment } from "./time.js";
import { style } from "./widget-style.js";

const TEXTS = {
  messages: "Messages",
  bell: "Messages, unread: {count}",
  unread: "Unread",
  nothing: "No messages yet",
  mark_read: "Mark read",
  acknowledge: "Acknowledge",
  acknowledged: "Acknowledged",
  reminder: "Reminder: {title}",
  mark_all_read: "Mark all read",
  dismiss: "Dismiss",
  more: "Load more",
  show: "Show",
  close: "Close",
  again: "Connect again",
  try_now: "Try now",
  arrived: "New message: {title}",
  arrived_urgent: "Urgent message: {title}",
  failed: "That did not work. Try again.",
  LOW: "Low",
  NORMAL: "",
  HIGH: "High",
  URGENT: "Urgent",
  connecting: "Connecting …",
  live: "",
  offline: "Offline. Next try within {seconds} s.",
  restarting: "The server restarts. Next try in {seconds} s.",
  limited: "Connected in too many places: new messages do not appear by themselves.",
  ended: "Not live: {reason}",
  signed_out: "You are signed out.",
};
const PAGE = 25;
const TOAST_STAYS = 8_000;
const FIRST_LOAD_AGAIN = 5_000;
const GAP = 8; // pixels, between the bell and the panel, and around it
const SVG = "http://www.w3.org/2000/svg";
const BELL =
  "M12 3a6 6 0 0 0-6 6v4.2L4.3 16.5A1 1 0 0 0 5.2 18h13.6a1 1 0 0 0 .9-1.5L18 13.2V9a6 6 0 0 0-6-6Z" +
  "M9.5 19.5a2.5 2.5 0 0 0 5 0Z";

export class BroadcastWidget extends HTMLElement {
  /** Set it before the element is on the page, where `data-token-url` does not do. */
  token = null;
  #texts = TEXTS;
  #client = null;
  #api = null;
  #seen = null;
  #parts = {};
  #entries = new Map(); // broadcast_id → {message, element}
  #passing = new Set(); // fire and forget, each shown once
  #next = null;
  #unread = 0;
  #loading = null;
  #meanwhile = null; // events that come while the messages are fetched

  connectedCallback() {
    if (this.#client) return; // it was only moved
    const { url, tokenUrl, texts, language } = this.dataset;
    this.#texts = { ...TEXTS, ...JSON.parse(texts ?? "{}"), ...this.texts };
    const token = this.token ?? (tokenUrl ? () => fetchToken(tokenUrl) : null);
    this.#client = new BroadcastClient({ token, language, ...(url && { url }) });
    this.#api = this.#client.api;
    this.#seen = new SeenReporter(this.#api);
    this.#build();
    this.#listen();
    this.#begin();
  }

  disconnectedCallback() {
    queueMicrotask(() => this.isConnected || this.#client.close());
  }

  async #begin() {
    const page = await this.#load();
    if (page) this.#client.follow(page);
    else if (!this.hidden) setTimeout(() => this.#begin(), FIRST_LOAD_AGAIN);
  }

  // What the server says

  #listen() {
    for (const type of ["MESSAGE", "MESSAGE_REMOVED", "READ_RECEIPT"]) {
      this.#client.addEventListener(type, ({ detail }) => this.#hear({ type, ...detail }));
    }
    this.#client.addEventListener("RESET", () => this.#load());
    this.#client.addEventListener("state", ({ detail }) => this.#showState(detail));
  }

  /** What was answered, or null. */
  async #load() {
    const loading = (this.#loading = {});
    this.#meanwhile ??= [];
    const page = await this.#try(this.#api.messages({ limit: PAGE }), { quietly: true });
    if (loading !== this.#loading) return null; // a later one knows more
    const events = this.#meanwhile;
    this.#meanwhile = null;
    if (page) this.#replace(page);
    for (const event of events) if (!page || event.position > page.position) this.#apply(event);
    return page;
  }

  #replace({ results, next, unread }) {
    const gone = new Set(this.#entries.keys());
    for (const { broadcast_id } of results) gone.delete(broadcast_id);
    for (const id of gone) this.#remove(id);
    for (const message of results.reverse()) this.#enter(message);
    this.#next = next;
    this.#count(unread);
  }

  #hear(event) {
    if (this.#meanwhile) this.#meanwhile.push(event);
    else this.#apply(event);
  }

  #apply({ type, data }) {
    const ids = data.broadcast_ids ?? [data.broadcast_id];
    if (type === "MESSAGE") return this.#arrive(data);
    if (!ids.every((id) => this.#entries.has(id))) this.#recount();
    for (const id of ids) {
      if (data.acknowledged_at) this.#setAcknowledged(id);
      if (type === "READ_RECEIPT") this.#setRead(id);
      else this.#remove(id);
    }
  }

  #arrive(message) {
    const { broadcast_id: id, title, priority, force_logoff: ends } = message;
    if (ends || this.#passing.has(id)) return; // `showState` says the end
    if (message.reminded_at) return this.#remind(message);
    if (this.#entries.has(id)) return;
    const urgently = priority === "URGENT";
    if (message.fire_and_forget) {
      this.#passing.add(id);
      this.#seen.watch(this.#banner(message)); // in no inbox, it is counted by this word
    } else {
      this.#enter({ ...message, seen_at: null, read_at: null });
      this.#count(this.#unread + 1);
      if (!urgently && !this.#isOpen) this.#toast(message);
    }
    this.#announce(this.#say(urgently ? "arrived_urgent" : "arrived", { title }), urgently);
    this.#dispatch("broadcast-message", message);
  }

  /** Once more, because the server has not heard that it was on screen. */
  #remind(message) {
    const { broadcast_id: id, title } = message;
    const known = this.#entries.get(id);
    if (known && !known.element.classList.contains("unread")) return;
    if (!known) this.#recount();
    this.#takeBack(id);
    this.#enter({ ...message, seen_at: null, read_at: null });
    this.#seen.again(this.#entries.get(id).element);
    if (message.priority === "URGENT") this.#banner(message);
    else if (!this.#isOpen) this.#toast(message, "reminder");
    this.#announce(this.#say("reminder", { title }), message.priority === "URGENT");
    this.#dispatch("broadcast-message", message);
  }

  /** For what is not in the panel only the server knows whether it was unread. */
  async #recount() {
    const page = await this.#try(this.#api.messages({ limit: 1 }), { quietly: true });
    if (page) this.#count(page.unread);
  }

  #showState({ state, within, reason, message }) {
    const { status, again, retry } = this.#parts;
    const seconds = Math.max(Math.ceil(within / 1000), 1);
    status.textContent = this.#say(state, { seconds, reason });
    retry.hidden = state !== "offline";
    again.hidden = !["ended", "limited"].includes(state);
    if (state === "signed_out") this.#end(message);
    this.#dispatch("broadcast-state", { state });
  }

  #end(message) {
    for (const id of [...this.#entries.keys()]) this.#remove(id);
    this.#next = null;
    this.#count(0);
    if (!message) return (this.hidden = true);
    this.#banner(message);
    this.#announce(message.title, true);
    const goes = this.#dispatch("broadcast-logoff", message);
    if (goes && this.dataset.logoffUrl) location.assign(this.dataset.logoffUrl);
  }

  // What the person does

  async #read(id) {
    const answer = await this.#try(this.#api.markRead(id));
    if (!answer) return;
    this.#setRead(id);
    this.#count(answer.unread);
  }

  async #acknowledge(id) {
    const answer = await this.#try(this.#api.acknowledge(id));
    if (!answer) return;
    this.#setAcknowledged(id);
    this.#setRead(id);
    this.#count(answer.unread);
  }

  async #readAll() {
    const answer = await this.#try(this.#api.markAllRead());
    if (!answer) return;
    this.#parts.title.focus(); // the button goes
    for (const id of this.#entries.keys()) this.#setRead(id);
    this.#count(answer.unread);
  }

  async #dismiss(id) {
    const answer = await this.#try(this.#api.dismiss(id));
    if (!answer) return;
    this.#remove(id);
    this.#count(answer.unread);
  }

  async #more() {
    const page = await this.#try(this.#api.nextPage(this.#next));
    if (!page) return;
    const fresh = page.results.filter(({ broadcast_id: id }) => !this.#entries.has(id));
    for (const message of fresh) this.#enter(message, { last: true });
    this.#next = page.next;
    this.#count(page.unread);
    this.#entries.get(fresh[0]?.broadcast_id)?.element.focus();
  }

  /** What was answered, or null: a request that failed is said, and a sign-out ends all. */
  async #try(request, { quietly = false } = {}) {
    const { failure } = this.#parts;
    try {
      const answer = await request;
      failure.textContent = "";
      return answer;
    } catch (error) {
      if (error.signedOut) this.#client.close("signed_out");
      else if (!quietly) failure.textContent = error.message || this.#say("failed");
      return null;
    }
  }

  // What is shown

  get #isOpen() {
    return this.#parts.panel.matches(":popover-open");
  }

  #build() {
    const root = this.attachShadow({ mode: "open" });
    const sheet = new CSSStyleSheet(); // which a strict Content Security Policy allows
    sheet.replaceSync(style);
    root.adoptedStyleSheets = [sheet];
    const parts = (this.#parts = {
      count: make("span", { className: "count", hidden: true }),
      status: make("p", { className: "status", role: "status" }),
      retry: this.#button("try_now", () => this.#client.wake()),
      again: this.#button("again", () => this.#begin()),
      failure: make("p", { className: "failure", role: "alert" }),
      readAll: this.#button("mark_all_read", () => this.#readAll()),
      list: make("ol", { className: "messages", role: "list" }),
      empty: make("p", { className: "empty", textContent: this.#say("nothing") }),
      more: this.#button("more", () => this.#more()),
      banners: make("div", { className: "banners", popover: "manual" }),
      toasts: make("div", { className: "toasts", popover: "manual" }),
      polite: make("div", { className: "unseen", ariaLive: "polite" }),
      assertive: make("div", { className: "unseen", ariaLive: "assertive" }),
    });
    const close = this.#cross(() => parts.panel.hidePopover());
    parts.retry.hidden = parts.again.hidden = true;
    const heading = { textContent: this.#say("messages"), tabIndex: -1, autofocus: true };
    parts.title = make("h2", heading);
    parts.panel = make(
      "section",
      { className: "panel", popover: "auto", role: "dialog", ariaLabel: this.#say("messages") },
      make("header", {}, parts.title, parts.readAll, close),
      make("div", { className: "state" }, parts.status, parts.retry, parts.again),
      parts.failure,
      parts.list,
      parts.empty,
      parts.more,
    );
    parts.bell = make("button", { className: "bell", type: "button" }, icon(BELL), parts.count);
    parts.bell.popoverTargetElement = parts.panel;
    parts.panel.addEventListener("beforetoggle", ({ newState }) => {
      if (newState === "open") this.#place();
      else if (parts.panel.matches(":focus-within")) parts.bell.focus();
    });
    addEventListener("resize", () => this.#place());
    for (const type of ["resize", "scroll"]) {
      addEventListener(type, () => this.#placeBanners(), { capture: true, passive: true });
    }
    const { bell, panel, banners, toasts, polite, assertive } = parts;
    root.append(bell, panel, banners, toasts, polite, assertive);
    keepMomentsFresh(root);
    this.#count(0);
  }

  /** Beside the bell, wherever the page has put it. */
  #place() {
    const { bell, panel } = this.#parts;
    const { top, bottom, left, right } = bell.getBoundingClientRect();
    const below = top + bottom < innerHeight;
    const inset = (space) => `${Math.max(space, GAP)}px`;
    panel.style.setProperty("--top", below ? inset(bottom + GAP) : "auto");
    panel.style.setProperty("--bottom", below ? "auto" : inset(innerHeight - top + GAP));
    panel.style.setProperty("--room", `${(below ? innerHeight - bottom : top) - 2 * GAP}px`);
    const leftwards = left + right > innerWidth;
    panel.style.setProperty("--right", leftwards ? inset(innerWidth - right) : "auto");
    panel.style.setProperty("--left", leftwards ? "auto" : inset(left));
  }

  /** At the top, except where they would cover the bell. */
  #placeBanners() {
    const { bell, banners } = this.#parts;
    if (!banners.matches(":popover-open")) return;
    const { top, bottom, left, right } = bell.getBoundingClientRect();
    const across = banners.getBoundingClientRect();
    const apart = right <= across.left || left >= across.right || bottom <= 0;
    const below = !apart && top + bottom < innerHeight;
    const room = below ? innerHeight - bottom : top - GAP;
    banners.style.setProperty("--top", below ? `${bottom}px` : "0px");
    banners.style.setProperty("--room", apart ? "100vh" : `${room}px`);
  }

  #enter(message, { last = false } = {}) {
    const id = message.broadcast_id;
    const known = this.#entries.get(id)?.element;
    const element = known ?? this.#item(message);
    this.#entries.set(id, { message, element });
    this.#parts.list[last ? "append" : "prepend"](element);
    if (!message.seen_at && !message.read_at) this.#seen.watch(element);
    if (message.acknowledged_at) this.#setAcknowledged(id);
    if (message.read_at) this.#setRead(id);
    else if (message.priority === "URGENT" && !known) this.#banner(message);
  }

  #item(message) {
    const id = message.broadcast_id;
    const read = this.#button("mark_read", () => this.#read(id));
    const dismiss = this.#button("dismiss", () => this.#dismiss(id));
    const lang = message.language ?? "";
    const words = { id: `title-${id}`, dir: "auto", lang, textContent: message.title };
    const title = make("h3", words);
    read.classList.add("read");
    for (const button of [read, dismiss]) button.setAttribute("aria-describedby", title.id);
    const actions = make("div", { className: "actions" });
    if (message.requires_acknowledgement) {
      const acknowledge = this.#button("acknowledge", () => this.#acknowledge(id));
      acknowledge.classList.add("acknowledge");
      acknowledge.setAttribute("aria-describedby", title.id);
      actions.append(acknowledge);
      dismiss.hidden = true;
    }
    actions.append(read, dismiss);
    const element = make("li", { className: "message unread", tabIndex: -1 });
    element.dataset.id = id;
    element.dataset.priority = message.priority;
    element.append(this.#meta(message), title, body(message), actions);
    return element;
  }

  #meta({ priority, category, sender_name: sender, activated_at: at }) {
    const time = make("time");
    showMoment(time, at);
    const meta = make("p", { className: "meta" });
    const unread = { className: "unseen only-unread", textContent: this.#say("unread") };
    const parts = { priority: this.#say(priority), category, sender };
    meta.append(make("span", unread));
    for (const [className, words] of Object.entries(parts)) {
      if (words) meta.append(make("span", { className, dir: "auto", textContent: words }));
    }
    meta.append(time);
    return meta;
  }

  #banner(message) {
    const id = message.broadcast_id;
    const inInbox = this.#entries.has(id);
    const banner = make("section", { className: "banner", ariaLabel: message.title });
    banner.dataset.id = id;
    banner.dataset.priority = message.priority;
    const close = this.#button(inInbox ? "mark_read" : "close", () =>
      inInbox ? this.#read(id) : this.#takeBack(id),
    );
    const lang = message.language ?? "";
    const title = make("h2", { dir: "auto", lang, textContent: message.title });
    banner.append(make("div", { className: "text" }, title, body(message)), close);
    this.#overlay("banners", banner);
    return banner;
  }

  #toast({ broadcast_id: id, title }, name = "arrived") {
    const show = this.#button("show", () => this.#reveal(id));
    const close = this.#cross(() => this.#takeBack(id));
    const words = make("p", { dir: "auto", textContent: this.#say(name, { title }) });
    const toast = make("div", { className: "toast" }, words, show, close);
    toast.dataset.id = id;
    this.#overlay("toasts", toast);
    const leave = () => {
      if (toast.matches(":hover, :focus-within")) setTimeout(leave, TOAST_STAYS);
      else this.#takeBack(id, toast);
    };
    setTimeout(leave, TOAST_STAYS);
  }

  #overlay(name, element) {
    this.#parts[name].append(element);
    this.#parts[name].togglePopover(true);
    this.#placeBanners();
  }

  /** Toast and banner of a message: it was dealt with, or is gone. */
  #takeBack(id, only = null) {
    for (const container of [this.#parts.banners, this.#parts.toasts]) {
      for (const element of container.querySelectorAll(`[data-id="${id}"]`)) {
        if (only && only !== element) continue;
        if (element.matches(":focus-within")) this.#parts.bell.focus();
        element.remove();
      }
      if (!container.children.length) container.togglePopover(false);
    }
  }

  #reveal(id) {
    this.#takeBack(id);
    this.#parts.panel.togglePopover(true);
    const element = this.#entries.get(id)?.element;
    element?.scrollIntoView({ block: "nearest" });
    element?.focus({ preventScroll: true });
  }

  #setRead(id) {
    const entry = this.#entries.get(id);
    this.#takeBack(id);
    if (!entry) return;
    if (entry.element.classList.contains("unread")) this.#count(this.#unread - 1);
    if (entry.element.querySelector(".read")?.matches(":focus")) entry.element.focus();
    entry.element.classList.remove("unread");
    entry.element.querySelectorAll(".read, .only-unread").forEach((part) => part.remove());
  }

  #setAcknowledged(id) {
    const button = this.#entries.get(id)?.element.querySelector(".acknowledge");
    if (!button) return;
    const done = { className: "acknowledged", textContent: this.#say("acknowledged") };
    if (button.matches(":focus")) this.#entries.get(id).element.focus();
    button.parentElement.lastChild.hidden = false; // now it may be dismissed
    button.replaceWith(make("p", done));
  }

  #remove(id) {
    const entry = this.#entries.get(id);
    this.#takeBack(id);
    if (!entry) return;
    const { element } = entry;
    const after = element.nextElementSibling ?? element.previousElementSibling;
    if (element.matches(":focus-within")) (after ?? this.#parts.title).focus();
    this.#seen.drop(id);
    this.#seen.forget(element);
    this.#entries.delete(id);
    element.remove();
    if (element.classList.contains("unread")) this.#count(this.#unread - 1);
    else this.#count(this.#unread);
  }

  #count(unread) {
    const { bell, count, readAll, empty, more } = this.#parts;
    this.#unread = Math.max(unread, 0);
    count.textContent = this.#unread > 99 ? "99+" : this.#unread;
    count.hidden = readAll.hidden = !this.#unread;
    empty.hidden = this.#entries.size > 0;
    more.hidden = !this.#next;
    bell.ariaLabel = this.#say("bell", { count: this.#unread });
    this.#dispatch("broadcast-unread", { count: this.#unread });
  }

  #announce(words, urgently) {
    const line = make("p", { textContent: words });
    this.#parts[urgently ? "assertive" : "polite"].replaceChildren(line);
  }

  #dispatch(name, detail) {
    const options = { bubbles: true, cancelable: true, detail };
    return this.dispatchEvent(new CustomEvent(name, options));
  }

  #say(name, values = {}) {
    return (this.#texts[name] ?? "").replace(/\{(\w+)\}/g, (_, key) => values[key]);
  }

  #button(name, onClick) {
    const button = make("button", { type: "button", textContent: this.#say(name) });
    button.addEventListener("click", onClick);
    return button;
  }

  #cross(onClick) {
    const button = this.#button("close", onClick);
    button.replaceChildren(icon("M6 6 18 18M18 6 6 18"));
    button.ariaLabel = this.#say("close");
    button.className = "cross";
    return button;
  }
}

async function fetchToken(url) {
  const response = await fetch(url, { cache: "no-store", headers: { Accept: "application/json" } });
  if ([401, 403].includes(response.status)) throw new ApiError(401);
  if (!response.ok) throw new ApiError(response.status);
  return (await response.json()).token;
}

function body({ html, language: lang = "" }) {
  const element = make("div", { className: "body", dir: "auto", lang });
  fillBody(element, html);
  return element;
}

function make(name, properties = {}, ...children) {
  const element = Object.assign(document.createElement(name), properties);
  element.append(...children);
  return element;
}

function icon(path) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", "0 0 24 24");
  svg.setAttribute("aria-hidden", "true");
  svg.append(document.createElementNS(SVG, "path"));
  svg.firstChild.setAttribute("d", path);
  return svg;
}

customElements.define("broadcast-widget", BroadcastWidget);

// The one tag: its data attributes become those of the element.
const script = [...document.scripts].find(({ src }) => src === import.meta.url);
if (script && !document.querySelector("broadcast-widget")) {
  const widget = document.createElement("broadcast-widget");
  Object.assign(widget.dataset, script.dataset);
  (document.querySelector(script.dataset.target || "body") ?? document.body).append(widget);
}
