// What the page says besides its messages: to the eye, and to screen readers.

import { fillBody } from "./html.js";
import { fillHead } from "./message.js";

const NOTICE_STAYS = 8_000;
const byId = (id) => document.getElementById(id);

/** To screen readers; `urgently` interrupts. */
export function announce(words, { urgently = false } = {}) {
  const line = document.createElement("p");
  line.textContent = words;
  byId(urgently ? "assertive" : "polite").replaceChildren(line);
}

/** A line at the foot of the window; it goes by itself unless it is urgent. */
export function notify(words, { about = null, urgent = false, onShow = null } = {}) {
  const notice = clone("notice-template");
  if (about) notice.dataset.about = about;
  const [show, close] = [notice.querySelector(".show"), notice.querySelector(".close")];
  notice.querySelector("p").textContent = words;
  notice.classList.toggle("urgent", urgent);
  show.hidden = !onShow;
  show.addEventListener("click", () => {
    notice.remove();
    onShow();
  });
  close.addEventListener("click", () => notice.remove());
  byId("notices").append(notice);
  if (!urgent) setTimeout(() => notice.remove(), NOTICE_STAYS);
}

/** Its message was dealt with, or is gone. */
export function takeBack(about) {
  for (const notice of document.querySelectorAll(`.notice[data-about="${about}"]`)) notice.remove();
}

/** A fire-and-forget message: above the inbox until it is closed. */
export function showBanner(message) {
  const banner = clone("banner-template");
  banner.dataset.id = message.broadcast_id;
  banner.dataset.priority = message.priority;
  fillHead(banner, message);
  fillBody(banner.querySelector(".body"), message.html);
  const title = banner.querySelector(".title");
  title.id = `banner-title-${message.broadcast_id}`;
  banner.setAttribute("aria-labelledby", title.id);
  banner.querySelector("button").addEventListener("click", () => {
    banner.remove();
    byId("messages").focus({ preventScroll: true });
  });
  byId("banners").prepend(banner);
  return banner;
}

export function showFarewell(words, html = "") {
  byId("farewell-title").textContent = words;
  fillBody(byId("farewell-body"), html);
  if (!byId("farewell").open) byId("farewell").showModal();
  byId("farewell").addEventListener("cancel", (event) => event.preventDefault());
}

/** What failed, until it is tried again with success, or closed. */
export class Failures {
  #waiting = new Map(); // what → {words, retry}

  constructor() {
    byId("failure-retry").addEventListener("click", () => this.#retry());
    byId("failure-close").addEventListener("click", () => this.#clear());
  }

  add(what, words, retry) {
    this.#waiting.set(what, { words, retry });
    this.#show();
  }

  settle(what) {
    if (this.#waiting.delete(what)) this.#show();
  }

  #retry() {
    const all = [...this.#waiting.values()];
    this.#clear();
    for (const { retry } of all) retry();
  }

  #clear() {
    this.#waiting.clear();
    this.#show();
  }

  #show() {
    const words = [...this.#waiting.values()].map((failure) => failure.words);
    byId("failure").hidden = !words.length;
    byId("failure-text").textContent = words.join("\n");
  }
}

function clone(template) {
  return byId(template).content.cloneNode(true).firstElementChild;
}
