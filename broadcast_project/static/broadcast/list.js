// The messages on the page: loaded in pages, joined by what arrives, each once.

import {
  messageElement,
  removeElement,
  showAcknowledged,
  showRead,
  showReminder,
} from "./message.js";
import { announce, notify, takeBack } from "./notices.js";
import { SeenReporter } from "./seen.js";
import { text } from "./texts.js";

const PAGE = 25;
const LARGEST_PAGE = 100;
const RECOUNT_AFTER = 500;
const OUT_OF_SIGHT = 200; // pixels scrolled, from which the top of the list is not in view
const REMOVED = { CANCELLED: "withdrawn", EXPIRED: "expired" };
const byId = (id) => document.getElementById(id);

export class MessageList {
  #entries = new Map(); // broadcast_id → {message, element}
  #counted = new Set(); // arrived under a search or filter that hides them
  #next = null;
  #unread = 0;
  #query = { search: "", state: "all" };
  #loading = null; // the AbortController of the first page that is on its way
  #meanwhile = []; // events that came while it was
  #recount = null;
  #seen;

  constructor({ api, failures, onUnread, onError }) {
    this.api = api;
    this.#seen = new SeenReporter(api);
    this.failures = failures;
    this.onUnread = onUnread;
    this.onError = onError;
    this.list = byId("messages");
    this.list.addEventListener("click", (event) => this.#clicked(event));
    byId("load-more").addEventListener("click", () => this.loadMore());
  }

  get searching() {
    return this.#query.search !== "";
  }

  // Pages

  /** Show what matches; throws nothing, and leaves the old when it fails. */
  async search(query) {
    this.#query = { ...this.#query, ...query };
    return this.#load(PAGE);
  }

  /** Fetch again as much as is shown; what was answered, or null. */
  refresh({ quiet = false } = {}) {
    const shown = Math.ceil(this.#entries.size / PAGE) * PAGE;
    return this.#load(Math.min(Math.max(shown, PAGE), LARGEST_PAGE), quiet);
  }

  async loadMore() {
    const url = this.#next;
    byId("load-more").disabled = true;
    try {
      const page = await this.api.nextPage(url);
      if (url === this.#next) this.#append(page);
      this.failures.settle("load");
    } catch (error) {
      this.#failed("load", text("failed_load"), error, () => this.loadMore());
    } finally {
      byId("load-more").disabled = false;
    }
  }

  async #load(limit, quiet = false) {
    this.#loading?.abort();
    const loading = (this.#loading = new AbortController());
    this.list.setAttribute("aria-busy", "true");
    try {
      const page = await this.api.messages({ ...this.#query, limit }, loading.signal);
      this.#loading = null;
      this.failures.settle("load");
      this.#replace(page);
      return page;
    } catch (error) {
      if (error.name === "AbortError") return null;
      this.#loading = null;
      if (!quiet || !error.passing) {
        this.#failed("load", text("failed_load"), error, () => this.refresh());
      }
      this.#catchUp(0);
      return null;
    } finally {
      this.list.setAttribute("aria-busy", this.#loading ? "true" : "false");
    }
  }

  #replace(page) {
    const focused = document.activeElement;
    const before = this.#entries;
    this.#entries = new Map();
    this.#counted.clear();
    const elements = page.results.map((message) => this.#adopt(message, before));
    for (const { element } of before.values()) this.#discard(element);
    this.list.replaceChildren(...elements);
    if (this.list.contains(focused)) focused.focus({ preventScroll: true });
    this.#next = page.next;
    this.#setUnread(page.unread);
    this.#catchUp(page.position);
  }

  /** The element of before, with what was expanded in it, when there is one. */
  #adopt(message, before) {
    const known = before.get(message.broadcast_id);
    before.delete(message.broadcast_id);
    if (!known) return this.#enter(message);
    showRead(known.element, Boolean(message.read_at));
    showReminder(known.element, message);
    showAcknowledged(known.element, message);
    this.#entries.set(message.broadcast_id, { message, element: known.element });
    return known.element;
  }

  #append(page) {
    const fresh = page.results.filter((message) => !this.#entries.has(message.broadcast_id));
    const elements = fresh.map((message) => this.#enter(message));
    this.list.append(...elements);
    this.#next = page.next;
    this.#setUnread(page.unread);
    elements[0]?.focus({ preventScroll: true });
    announce(text("loaded", { count: elements.length }));
  }

  #enter(message) {
    const element = messageElement(message);
    this.#entries.set(message.broadcast_id, { message, element });
    if (!message.seen_at && !message.read_at) this.#seen.watch(element);
    return element;
  }

  #discard(element) {
    this.#seen.forget(element);
    removeElement(element);
  }

  /** Tell the server when an element that is not of the list was on screen. */
  report(element) {
    this.#seen.watch(element);
  }

  // What the stream says

  /** Events that come while the inbox is fetched are kept, and applied to what it did not hold. */
  hear(type, data, position) {
    if (this.#loading) this.#meanwhile.push({ type, data, position });
    else this.#apply(type, data);
  }

  #catchUp(complete) {
    const events = this.#meanwhile.splice(0);
    for (const { type, data, position } of events) {
      if (position === null || position > complete) this.#apply(type, data);
    }
  }

  #apply(type, data) {
    const ids = data.broadcast_ids ?? [data.broadcast_id];
    const unseen = { seen_at: null, read_at: null, acknowledged_at: null };
    if (type === "MESSAGE") this.#arrive({ ...data, ...unseen });
    if (type === "READ_RECEIPT") this.#readElsewhere(ids, data.acknowledged_at);
    if (type === "MESSAGE_REMOVED") for (const id of ids) this.#removed(id, data.reason);
  }

  #arrive(message) {
    const id = message.broadcast_id;
    if (message.reminded_at) return this.#remind(message);
    if (this.#entries.has(id) || this.#counted.has(id)) return;
    this.#setUnread(this.#unread + 1);
    if (this.searching) {
      this.#counted.add(id);
    } else {
      const element = this.#enter(message);
      element.classList.add("arriving");
      this.list.prepend(element);
      this.#showEmptiness();
    }
    this.#tellArrival(message);
  }

  /** Once more, because the server has not heard that it was on screen: on top, and to be seen. */
  #remind(message) {
    const id = message.broadcast_id;
    const known = this.#entries.get(id);
    if (known?.message.read_at) return;
    if (!known) this.#countAgain();
    if (!this.searching) {
      const element = known?.element ?? this.#enter(message);
      if (known) known.message = { ...known.message, reminded_at: message.reminded_at };
      showReminder(element, message);
      this.#seen.again(element);
      element.classList.add("arriving");
      if (!element.contains(document.activeElement)) this.list.prepend(element);
      this.#showEmptiness();
    }
    takeBack(id);
    this.#tellArrival(message, "reminder");
  }

  #tellArrival(message, name = "arrived") {
    const urgent = message.priority === "URGENT";
    const words = text(urgent ? "arrived_urgent" : name, { title: message.title });
    announce(words, { urgently: urgent });
    const about = message.broadcast_id;
    const onShow = () => this.#reveal(about);
    if (this.searching || scrollY > OUT_OF_SIGHT) notify(words, { about, urgent, onShow });
  }

  async #reveal(id) {
    if (!this.#entries.has(id)) {
      byId("tools").reset();
      await this.search({ search: "", state: "all" });
    }
    const element = this.#entries.get(id)?.element;
    element?.scrollIntoView({ block: "center" });
    element?.focus({ preventScroll: true });
  }

  #readElsewhere(ids, acknowledgedAt = null) {
    for (const id of ids) {
      if (acknowledgedAt) this.#setAcknowledged(id, acknowledgedAt);
      if (this.#entries.has(id)) this.#setRead(id, new Date().toISOString());
      else this.#countAgain();
    }
  }

  #removed(id, reason) {
    const entry = this.#entries.get(id);
    takeBack(id);
    if (!entry) return this.#countAgain();
    this.#seen.drop(id);
    this.#focusNear(id, true);
    this.#remove(id);
    if (reason) this.#tellGone(entry.message, REMOVED[reason] ?? "not_there");
  }

  #tellGone({ title }, why) {
    notify(text(why, { title }));
    announce(text(why, { title }));
  }

  /** For what is not on the page only the server knows whether it was unread. */
  #countAgain() {
    clearTimeout(this.#recount);
    this.#recount = setTimeout(async () => {
      const page = await this.api.messages({ limit: 1 }).catch(() => null);
      if (page) this.#setUnread(page.unread);
    }, RECOUNT_AFTER);
  }

  // What the person does

  #clicked(event) {
    const action = event.target.closest("[data-action]")?.dataset.action;
    const id = Number(event.target.closest(".message")?.dataset.id);
    if (action === "read") this.markRead(id);
    if (action === "acknowledge") this.acknowledge(id);
    if (action === "dismiss") this.dismiss(id);
  }

  async markRead(id) {
    const { message } = this.#entries.get(id) ?? {};
    if (!message || message.read_at) return;
    this.#focusNear(id, this.#query.state === "unread");
    this.#setRead(id, new Date().toISOString());
    try {
      await this.api.markRead(id);
      this.failures.settle(`read ${id}`);
    } catch (error) {
      if (error.status === 404) return this.#lost(id, message);
      this.#setRead(id, null, message);
      const words = text("failed_read", { title: message.title });
      this.#failed(`read ${id}`, words, error, () => this.markRead(id));
    }
  }

  async acknowledge(id) {
    const { message } = this.#entries.get(id) ?? {};
    if (!message || message.acknowledged_at) return;
    this.#focusNear(id, this.#query.state === "unread" && !message.read_at);
    try {
      await this.api.acknowledge(id); // shown when the server has it: this is a proof
      this.failures.settle(`acknowledge ${id}`);
    } catch (error) {
      if (error.status === 404) return this.#lost(id, message);
      const words = text("failed_acknowledge", { title: message.title });
      return this.#failed(`acknowledge ${id}`, words, error, () => this.acknowledge(id));
    }
    const now = new Date().toISOString();
    this.#setAcknowledged(id, now);
    this.#setRead(id, now);
    announce(text("acknowledged", { title: message.title }));
  }

  async markAllRead() {
    const unread = [...this.#entries.values()].filter(({ message }) => !message.read_at);
    const before = this.#unread;
    for (const { message } of unread) this.#setRead(message.broadcast_id, new Date().toISOString());
    this.#setUnread(0);
    this.list.focus({ preventScroll: true });
    try {
      await this.api.markAllRead();
      this.failures.settle("read all");
    } catch (error) {
      for (const { message } of unread.reverse()) {
        this.#setRead(message.broadcast_id, null, message);
      }
      this.#setUnread(before);
      this.#failed("read all", text("failed_read_all"), error, () => this.markAllRead());
    }
  }

  async dismiss(id) {
    const entry = this.#entries.get(id);
    if (!entry) return;
    const { message, element } = entry;
    const after = element.nextElementSibling;
    this.#focusNear(id, true);
    this.#remove(id);
    try {
      await this.api.dismiss(id);
      this.failures.settle(`dismiss ${id}`);
    } catch (error) {
      if (error.status === 404) return; // it is gone, which was wanted
      this.#putBack(message, after);
      const words = text("failed_dismiss", { title: message.title });
      this.#failed(`dismiss ${id}`, words, error, () => this.dismiss(id));
    }
  }

  #lost(id, message) {
    this.#remove(id);
    this.#countAgain();
    this.#tellGone(message, "not_there");
  }

  #putBack(message, before) {
    if (this.#entries.has(message.broadcast_id)) return;
    const element = this.#enter(message);
    this.list.insertBefore(element, before?.parentNode === this.list ? before : null);
    if (!message.read_at) this.#setUnread(this.#unread + 1);
    this.#showEmptiness();
  }

  /** Keep the focus in the list when the button that has it goes. */
  #focusNear(id, leaves) {
    const { element } = this.#entries.get(id);
    if (!element.contains(document.activeElement)) return;
    const neighbour = element.nextElementSibling ?? element.previousElementSibling ?? this.list;
    (leaves ? neighbour : element).focus({ preventScroll: true });
  }

  // State, and its look

  #setRead(id, at, restored) {
    const entry = this.#entries.get(id);
    if (!entry) {
      if (restored && !at) this.#putBack({ ...restored, read_at: null }, this.list.firstChild);
      return;
    }
    if (Boolean(entry.message.read_at) === Boolean(at)) return;
    entry.message = { ...entry.message, read_at: at };
    this.#setUnread(this.#unread + (at ? -1 : 1));
    showRead(entry.element, Boolean(at));
    if (at) takeBack(id);
    if (at && this.#query.state === "unread") this.#remove(id);
  }

  #setAcknowledged(id, at) {
    const entry = this.#entries.get(id);
    if (!entry || entry.message.acknowledged_at) return;
    entry.message = { ...entry.message, acknowledged_at: at };
    showAcknowledged(entry.element, entry.message);
  }

  #remove(id) {
    const { message, element } = this.#entries.get(id);
    this.#entries.delete(id);
    this.#discard(element);
    takeBack(id);
    if (!message.read_at) this.#setUnread(this.#unread - 1);
    this.#showEmptiness();
  }

  #setUnread(count) {
    this.#unread = Math.max(count, 0);
    this.onUnread(this.#unread);
    this.#showEmptiness();
  }

  #showEmptiness() {
    const empty = this.#entries.size === 0 && !this.#next;
    const { search, state } = this.#query;
    byId("loading").hidden = true;
    byId("load-more").hidden = !this.#next;
    byId("empty-found").hidden = !(empty && search);
    byId("empty-read").hidden = !(empty && !search && state === "unread");
    byId("empty-nothing").hidden = !(empty && !search && state === "all");
    byId("empty-found-text").textContent = text("nothing_found", { search });
  }

  #failed(what, words, error, retry) {
    byId("loading").hidden = true;
    this.onError(error);
    if (!error.signedOut) this.failures.add(what, `${words} ${reasonOf(error)}`, retry);
  }
}

function reasonOf({ message, status }) {
  return message || text(status ? "unexpected" : "no_connection", { status });
}
