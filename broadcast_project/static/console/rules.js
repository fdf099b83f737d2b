// The form of a rule: the latest event of its type, its conditions, and a test against past ones.
"use strict";

document.addEventListener("DOMContentLoaded", () => {
  const box = document.querySelector("[data-example]");
  const form = box?.closest("form");
  if (!form) {
    return;
  }
  const pattern = document.getElementById("id_pattern");
  const token = form.querySelector("[name=csrfmiddlewaretoken]").value;

  function make(tag, properties = {}, ...children) {
    const element = Object.assign(document.createElement(tag), properties);
    element.append(...children);
    return element;
  }

  async function ask(url, body) {
    const headers = { "X-CSRFToken": token };
    const response = await fetch(url, { method: "POST", body, headers });
    if (!response.ok || response.redirected) {
      throw new Error(response.statusText);
    }
    return response.json();
  }

  // Conditions
  const conditions = form.querySelector("[data-conditions]");
  const rows = conditions.querySelector("[data-conditions-rows]");

  function hideValues() {
    for (const row of rows.children) {
      const [, operator, value] = row.querySelectorAll("input, select");
      value.style.visibility = operator.value === "exists" ? "hidden" : "";
    }
  }

  function addCondition(field = "", value = "") {
    const row = conditions.querySelector("template").content.cloneNode(true).firstElementChild;
    const [name, operator, given] = row.querySelectorAll("input, select");
    name.value = field;
    given.value = value;
    rows.append(row);
    (field ? operator : name).focus();
  }

  conditions.querySelector("[data-conditions-add]").addEventListener("click", () => addCondition());
  rows.addEventListener("change", hideValues);
  rows.addEventListener("click", (event) => {
    if (event.target.closest("[data-conditions-remove]")) {
      event.target.closest("fieldset").remove();
    }
  });
  hideValues();

  // Where a field is inserted: where the cursor was last
  let writing = document.getElementById("id_content");
  form.addEventListener("focusin", ({ target }) => {
    if (target.matches("#id_title, #id_content, [data-translations] input, [data-translations] textarea")) {
      writing = target;
    }
  });

  function insert(path) {
    const text = `{{ ${path} }}`;
    if (!writing.isConnected) {
      writing = document.getElementById("id_content");
    }
    writing.focus();
    writing.setRangeText(text, writing.selectionStart, writing.selectionEnd, "end");
    writing.dispatchEvent(new Event("input", { bubbles: true }));
  }

  // The latest event
  const part = (name) => box.querySelector(`[data-example-${name}]`);
  let asked = 0;
  let timer = 0;

  function item({ path, text, value }) {
    const { insert: inserts, ask: asks } = part("fields").dataset;
    const name = make("button", { type: "button", className: "console-field", title: inserts }, path);
    name.setAttribute("aria-label", `${inserts}: ${path}`);
    name.addEventListener("click", () => insert(path));
    const filter = make("span", { className: "material-symbols-outlined" }, "filter_alt");
    filter.setAttribute("aria-hidden", "true");
    const condition = make("button", { type: "button", className: "console-field-ask", title: asks }, filter);
    condition.setAttribute("aria-label", `${asks}: ${path}`);
    condition.addEventListener("click", () => addCondition(path, value));
    return make("li", {}, name, make("span", { className: "console-field-value" }, text), condition);
  }

  function show({ sentence = "", about = "", url = "", fields = [], error = "" }) {
    part("sentence").textContent = error || sentence;
    part("sentence").classList.toggle("console-bad", Boolean(error));
    part("about").replaceChildren(url ? make("a", { href: url }, about) : about);
    part("fields").replaceChildren(...fields.map(item));
    const options = fields.map(({ path }) => make("option", { value: path }));
    document.getElementById("event_fields").replaceChildren(...options);
  }

  async function look() {
    const mine = (asked += 1);
    const body = new FormData();
    body.set("pattern", pattern.value);
    try {
      const answer = await ask(box.dataset.example, body);
      if (mine === asked) {
        show(answer);
      }
    } catch {
      show({ error: part("sentence").dataset.failed });
    }
  }

  pattern.setAttribute("list", "event_types");
  pattern.addEventListener("input", () => {
    window.clearTimeout(timer);
    timer = window.setTimeout(look, 250);
  });
  look();

  // The test
  const rehearsal = form.querySelector("[data-rehearsal]");
  const summary = rehearsal.querySelector("[data-rehearsal-summary]");
  const list = rehearsal.querySelector("[data-rehearsal-rows]");

  function rehearsed({ outcome, label, when, type, key, note, title, html, url }) {
    const badge = make("strong", { className: `console-outcome console-outcome-${outcome.toLowerCase()}` }, label);
    const link = url ? make("a", { href: url }, key) : key;
    const head = make("p", { className: "console-rehearsed-head" }, badge, ` ${when} · ${type} · `, link);
    if (outcome !== "BROADCAST") {
      return make("li", {}, head, make("p", {}, note));
    }
    const content = make("div", { innerHTML: html }); // sanitised by the server
    return make("li", {}, head, make("div", { className: "console-prose" }, make("h3", {}, title), content));
  }

  function tell(text, bad) {
    summary.textContent = text;
    summary.classList.toggle("console-bad", bad);
  }

  rehearsal.querySelector("[data-rehearse]").addEventListener("click", async ({ currentTarget }) => {
    currentTarget.disabled = true;
    const body = new FormData(form);
    body.set("rule", rehearsal.dataset.rule);
    try {
      const answer = await ask(rehearsal.dataset.rehearsal, body);
      tell(answer.error || answer.summary, Boolean(answer.error));
      list.replaceChildren(...(answer.rows ?? []).map(rehearsed));
    } catch {
      tell(summary.dataset.failed, true);
      list.replaceChildren();
    } finally {
      currentTarget.disabled = false;
    }
  });
});
