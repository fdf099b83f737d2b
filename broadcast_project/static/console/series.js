// When a series goes out next, while the form that says so is filled in.
"use strict";

document.addEventListener("DOMContentLoaded", () => {
  const box = document.querySelector("[data-upcoming]");
  const form = box?.closest("form");
  if (!form) {
    return;
  }
  const part = (name) => box.querySelector(`[data-upcoming-${name}]`);
  const names = ["cron", "zone", "starts_on", "ends_on", "count"];
  const token = form.querySelector("[name=csrfmiddlewaretoken]").value;
  let timer = 0;
  let asked = 0;

  function item(text) {
    const li = document.createElement("li");
    li.textContent = text;
    return li;
  }

  async function ask() {
    const mine = (asked += 1);
    const body = new FormData();
    for (const name of names) {
      body.set(name, form.elements[name].value);
    }
    body.set("series", window.location.pathname.match(/\/(\d+)\/change\/$/)?.[1] ?? "");
    try {
      const headers = { "X-CSRFToken": token };
      const response = await fetch(box.dataset.upcoming, { method: "POST", body, headers });
      if (!response.ok || response.redirected) {
        throw new Error(response.statusText);
      }
      const answer = await response.json();
      if (mine === asked) {
        show(answer);
      }
    } catch {
      show({ error: part("words").dataset.failed });
    }
  }

  function show({ words, moments = [], note = "", error = "" }) {
    part("words").textContent = error || words;
    part("words").classList.toggle("console-bad", Boolean(error));
    part("moments").replaceChildren(...moments.map(item));
    part("note").textContent = note;
  }

  function soon() {
    window.clearTimeout(timer);
    timer = window.setTimeout(ask, 250);
  }

  // The calendar of a date writes into its field without an event.
  let before = "";
  window.setInterval(() => {
    const now = names.map((name) => form.elements[name].value).join("\n");
    if (now !== before) {
      before = now;
      soon();
    }
  }, 250);
});
