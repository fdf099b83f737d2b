// The inbox of a person, live.

import * as api from "./api.js";
import { MessageList } from "./list.js";
import { Failures, announce, showBanner, showFarewell } from "./notices.js";
import { Stream } from "./stream.js";
import { text } from "./texts.js";
import { keepMomentsFresh } from "./time.js";

const SEARCH_AFTER = 250; // ms without a key
const POLL_WHEN_LIMITED = 60_000;
const FIRST_LOAD_AGAIN = 3_000;
const TRIES_BEFORE_DOUBT = 3;

const byId = (id) => document.getElementById(id);
const favicon = document.querySelector("link[rel=icon]");
const icons = { read: favicon.href, unread: favicon.dataset.unread };
const pageTitle = document.title.trim().split(" · ").at(-1);

const failures = new Failures();
const list = new MessageList({ failures, onUnread: showUnread, onError: noticeSignOut });
const stream = new Stream({ onEvent: hear, onState: showState });
const banners = new Set();
let connectedBefore = false;
let doubted = false;
let polling = null;

async function start() {
  keepMomentsFresh();
  listenToTools();
  listenToConnection();
  await begin();
}

/** The stream begins where the first answer ends: nothing falls between. */
async function begin() {
  const position = await list.refresh();
  if (position !== null) stream.open(position);
  else if (!byId("farewell").open) setTimeout(begin, FIRST_LOAD_AGAIN);
}

// The stream

function hear(type, data, position) {
  if (type === "MESSAGE" && data.fire_and_forget) passing(data);
  else if (type === "CONNECTED") connected(data);
  else if (type === "RESET" || (type === "DISCONNECTED" && data.reconnect)) list.refresh();
  else list.hear(type, data, position);
}

function connected({ recovered }) {
  if (connectedBefore && !recovered) list.refresh();
  connectedBefore = true;
  doubted = false;
}

function passing(message) {
  if (banners.has(message.broadcast_id)) return;
  banners.add(message.broadcast_id);
  if (message.force_logoff) return logOff(message);
  showBanner(message);
  const urgently = message.priority === "URGENT";
  const words = text(urgently ? "arrived_urgent" : "arrived", { title: message.title });
  announce(words, { urgently });
}

async function logOff({ title, html }) {
  stream.end("signed_out");
  await api.signOut(byId("logout")).catch(() => null);
  showFarewell(text("logged_off", { title }), html);
}

function noticeSignOut(error) {
  if (!error.signedOut) return;
  stream.end("signed_out");
  showFarewell(text("session_over"));
}

function showState(state, { within, reason } = {}) {
  const seconds = Math.max(Math.ceil(within / 1000), 1);
  byId("connection").dataset.state = state;
  byId("connection-text").textContent = text(`state_${state}`, { seconds, reason });
  byId("connection-try").hidden = state !== "offline";
  byId("connection-again").hidden = !["ended", "limited"].includes(state);
  poll(state === "limited");
  if (state === "offline" && stream.failures >= TRIES_BEFORE_DOUBT) doubt();
}

/**
 * EventSource does not say why it fails, so ask what does: a sign-out shows, and a place in the
 * stream that the server refuses is given up, once, for the place where the answer ends.
 */
async function doubt() {
  const position = await list.refresh({ quiet: true });
  const { state } = byId("connection").dataset;
  if (position === null || state !== "offline" || doubted) return;
  doubted = true;
  stream.resumeAt(position);
}

function poll(wanted) {
  clearInterval(polling);
  polling = wanted ? setInterval(() => list.refresh({ quiet: true }), POLL_WHEN_LIMITED) : null;
}

function listenToConnection() {
  byId("connection-try").addEventListener("click", () => stream.reopen());
  byId("connection-again").addEventListener("click", () => begin());
  addEventListener("pagehide", () => {
    if (stream.connectionId) api.disconnect(stream.connectionId).catch(() => null);
  });
}

// The tools above the list

function listenToTools() {
  let timer = null;
  const search = () => {
    clearTimeout(timer);
    list.search(queryOf(byId("tools")));
  };
  byId("search").addEventListener("input", () => {
    clearTimeout(timer);
    timer = setTimeout(search, SEARCH_AFTER);
  });
  byId("tools").addEventListener("change", search);
  byId("tools").addEventListener("submit", (event) => {
    event.preventDefault();
    search();
  });
  byId("clear").addEventListener("click", () => {
    byId("tools").reset();
    search();
    byId("search").focus();
  });
  byId("read-all").addEventListener("click", () => list.markAllRead());
}

function queryOf(form) {
  const data = new FormData(form);
  return { search: data.get("search").trim(), state: data.get("state") };
}

function showUnread(count) {
  const words = count ? text("unread", { count }) : text("everything_read");
  if (byId("unread").textContent !== words) byId("unread").textContent = words;
  byId("unread").classList.toggle("some", count > 0);
  byId("read-all").hidden = !count;
  const own = text(count ? "page_title_unread" : "page_title", { count });
  document.title = `${own} · ${pageTitle}`;
  favicon.href = count ? icons.unread : icons.read;
}

start();
