// One message as an element.

import { fillBody } from "./html.js";
import { text } from "./texts.js";
import { showMoment } from "./time.js";

const template = document.getElementById("message-template");

const longTexts = new ResizeObserver((entries) => {
  for (const { target } of entries) offerToExpand(target.closest(".message"));
});

export function messageElement(message) {
  const element = template.content.cloneNode(true).querySelector(".message");
  const part = (name) => element.querySelector(name);
  element.dataset.id = message.broadcast_id;
  element.dataset.priority = message.priority;
  fillHead(element, message);
  fillOrRemove(part(".category"), message.category);
  fillOrRemove(part(".reference span"), message.reference, part(".reference"));
  fillExpiry(part(".expiry"), message.expires_at);
  fillBody(part(".body"), message.html);
  describeButtons(element, message.broadcast_id);
  part(".expand").addEventListener("click", () => toggle(element));
  part(".body").addEventListener("focusin", () => expand(element, true));
  longTexts.observe(part(".body"));
  showRead(element, Boolean(message.read_at));
  showReminder(element, message);
  showAcknowledged(element, message);
  return element;
}

/** Title, priority, sender and moment: what messages and banners have in common. */
export function fillHead(element, message) {
  const part = (name) => element.querySelector(name);
  element.querySelector(".title").textContent = message.title;
  for (const own of [".title", ".body"]) part(own).lang = message.language ?? "";
  part(".priority").textContent = text(`priority_${message.priority}`);
  part(".priority").hidden = message.priority === "NORMAL";
  fillOrRemove(part(".sender"), message.sender_name);
  showMoment(part(".sent"), message.activated_at);
}

export function showRead(element, read) {
  element.classList.toggle("unread-message", !read);
  element.querySelector(".mark").hidden = read;
  element.querySelector("[data-action=read]").hidden = read;
}

/** Until it is acknowledged, what asks for it cannot be dismissed. */
export function showAcknowledged(element, { requires_acknowledgement: asks, acknowledged_at: at }) {
  const part = (name) => element.querySelector(name);
  const waits = Boolean(asks) && !at;
  element.classList.toggle("asks", waits);
  part("[data-action=acknowledge]").hidden = !waits;
  part("[data-action=dismiss]").hidden = waits;
  part(".acknowledged").hidden = !at;
  if (at) showMoment(part(".acknowledged time"), at);
}

export function showReminder(element, { reminded_at: at, seen_at: seen }) {
  element.querySelector(".reminder").hidden = !at || Boolean(seen);
}

export function removeElement(element) {
  longTexts.unobserve(element.querySelector(".body"));
  element.remove();
}

function fillOrRemove(element, value, whole = element) {
  if (value) element.textContent = value;
  else whole.remove();
}

function fillExpiry(element, iso) {
  if (!iso) return element.remove();
  const time = document.createElement("time");
  showMoment(time, iso);
  const [before, after] = text("expires", { when: "\0" }).split("\0");
  element.append(before, time, after);
}

function describeButtons(element, id) {
  const title = element.querySelector(".title");
  title.id = `title-${id}`;
  element.setAttribute("aria-labelledby", title.id);
  for (const button of element.querySelectorAll("button")) {
    button.setAttribute("aria-describedby", title.id);
  }
}

function offerToExpand(element) {
  const body = element.querySelector(".body");
  const expanded = element.classList.contains("expanded");
  const cut = body.scrollHeight > body.clientHeight + 1;
  element.classList.toggle("cut", cut && !expanded);
  element.querySelector(".expand").hidden = !cut && !expanded;
  if (!expanded) expand(element, false);
}

function toggle(element) {
  expand(element, !element.classList.contains("expanded"));
  if (!element.classList.contains("expanded")) element.scrollIntoView({ block: "nearest" });
}

function expand(element, expanded) {
  const button = element.querySelector(".expand");
  if (expanded && button.hidden) return;
  element.classList.toggle("expanded", expanded);
  if (expanded) element.classList.remove("cut");
  button.setAttribute("aria-expanded", expanded);
  button.textContent = text(expanded ? "show_less" : "show_more");
}
