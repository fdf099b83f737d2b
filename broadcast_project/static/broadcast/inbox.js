// The inbox of a person, live.

import { csrfToken } from "./api.js";
import { BroadcastClient } from "./client.js";
import { MessageList } from "./list.js";
import { Failures, announce, showBanner, showFarewell } from "./notices.js";
import { text } from "./texts.js";
import { keepMomentsFresh } from "./time.js";

const SEARCH_AFTER = 250; // ms without a key
const POLL_WHEN_LIMITED = 60_000;
const FIRST_LOAD_AGAIN = 3_000;

const byId = (id) => document.getElementById(id);
const favicon = document.querySelector("link[rel=icon]");
const icons = { read: favicon.href, unread: favicon.dataset.unread };
const pageTitle = document.title.trim().split(" · ").at(-1);

const failures = new Failures();
const client = new BroadcastClient();
const { api } = client;
const list = new MessageList({ api, failures, onUnread: showUnread, onError: noticeSignOut });
const banners = new Set();
let polling = null;

async function start() {
  keepMomentsFresh();
  listenToTools();
  listenToConnection();
  listenToStream();
  await begin();
}

/** The stream begins where the first answer ends: nothing falls between. */
async function begin() {
  const page = await list.refresh();
  if (page) client.follow(page);
  else if (!byId("farewell").open) setTimeout(begin, FIRST_LOAD_AGAIN);
}

// The stream

function listenToStream() {
  for (const type of ["MESSAGE", "MESSAGE_REMOVED", "READ_RECEIPT"]) {
    client.addEventListener(type, ({ detail }) => hear(type, detail));
  }
  client.addEventListener("RESET", () => list.refresh());
  client.addEventListener("state", ({ detail }) => showState(detail));
}

function hear(type, { data, position }) {
  if (type === "MESSAGE" && data.fire_and_forget) passing(data);
  else list.hear(type, data, position);
}

function passing(message) {
  if (message.force_logoff || banners.has(message.broadcast_id)) return; // or `showState` says it
  banners.add(message.broadcast_id);
  list.report(showBanner(message)); // in no inbox, it is counted by this word
  const urgently = message.priority === "URGENT";
  const words = text(urgently ? "arrived_urgent" : "arrived", { title: message.title });
  announce(words, { urgently });
}

async function logOff({ title, html }) {
  const request = { method: "POST", headers: { "X-CSRFToken": csrfToken() }, redirect: "manual" };
  await fetch(byId("logout").action, request).catch(() => null);
  showFarewell(text("logged_off", { title }), html);
}

function noticeSignOut(error) {
  if (error.signedOut) client.close("signed_out");
}

function showState({ state, within, reason, message }) {
  const seconds = Math.max(Math.ceil(within / 1000), 1);
  byId("connection").dataset.state = state;
  byId("connection-text").textContent = text(`state_${state}`, { seconds, reason });
  byId("connection-try").hidden = state !== "offline";
  byId("connection-again").hidden = !["ended", "limited"].includes(state);
  poll(state === "limited");
  if (message) logOff(message);
  else if (state === "signed_out") showFarewell(text("session_over"));
}

function poll(wanted) {
  clearInterval(polling);
  polling = wanted ? setInterval(() => list.refresh({ quiet: true }), POLL_WHEN_LIMITED) : null;
}

function listenToConnection() {
  byId("connection-try").addEventListener("click", () => client.wake());
  byId("connection-again").addEventListener("click", () => begin());
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
