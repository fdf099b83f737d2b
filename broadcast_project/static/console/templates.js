// A template is chosen, its fields are filled in, and what it says is put into the form.
"use strict";

document.addEventListener("DOMContentLoaded", () => {
  const picker = document.querySelector("[data-templates]");
  const form = document.querySelector("[data-targets]")?.closest("form");
  if (!picker || !form) {
    return;
  }
  const part = (name) => picker.querySelector(`[data-template-${name}]`);
  const templates = JSON.parse(document.getElementById("templates").textContent);
  const choice = picker.querySelector("select");
  const error = part("error");
  const unfilled = "unfilled" in picker.dataset; // events fill it in, when they happen
  let timer = 0;
  let asked = 0;

  const chosen = () => templates.find(({ id }) => String(id) === choice.value);

  function field(name) {
    const label = document.createElement("label");
    label.className = "console-label";
    label.textContent = name;
    const input = document.createElement("input");
    input.className = "console-input";
    input.dataset.field = name;
    label.append(input);
    return label;
  }

  function question(use) {
    const body = new FormData();
    body.set("template", choice.value);
    for (const input of picker.querySelectorAll("[data-field]")) {
      body.set(`value_${input.dataset.field}`, input.value);
    }
    if (use && !unfilled) {
      body.set("use", "yes");
    }
    return body;
  }

  async function ask(use = false) {
    window.clearTimeout(timer); // a preview that comes later must not take the place of a use
    const mine = (asked += 1);
    const token = form.querySelector("[name=csrfmiddlewaretoken]").value;
    try {
      const response = await fetch(picker.dataset.fill, {
        method: "POST",
        body: question(use),
        headers: { "X-CSRFToken": token },
      });
      if (!response.ok || response.redirected) {
        throw new Error(response.statusText);
      }
      const answer = await response.json();
      if (mine === asked) {
        show(answer, use);
      }
    } catch {
      error.textContent = error.dataset.failed;
    }
  }

  function show(answer, use) {
    error.textContent = answer.error || "";
    if (answer.error) {
      return;
    }
    part("title").textContent = answer.title;
    part("html").innerHTML = answer.html; // sanitised by the server
    if (use) {
      put(answer);
    }
  }

  function put({ title, content, language, translations }) {
    const area = document.getElementById("id_content");
    document.getElementById("id_title").value = title;
    area.value = content;
    area.dispatchEvent(new Event("input", { bubbles: true }));
    const select = document.getElementById("id_language");
    if (![...select.options].some(({ value }) => value === language)) {
      select.add(new Option(language, language));
    }
    select.value = language;
    const editor = form.querySelector("[data-translations]");
    editor.dispatchEvent(new CustomEvent("fill", { detail: Object.entries(translations) }));
    picker.open = false;
    document.getElementById("id_title").focus();
  }

  function clear() {
    for (const name of ["title", "html", "error"]) {
      part(name).textContent = "";
    }
  }

  choice.addEventListener("change", () => {
    clear();
    part("use").disabled = !chosen();
    part("fields").replaceChildren(...((!unfilled && chosen()?.fields) || []).map(field));
    if (chosen()) {
      ask();
    }
  });
  part("fields").addEventListener("input", () => {
    window.clearTimeout(timer);
    timer = window.setTimeout(() => ask(), 250);
  });
  part("fields").addEventListener("keydown", (event) => {
    if (event.key === "Enter") {
      event.preventDefault();
      ask(true);
    }
  });
  part("use").addEventListener("click", () => ask(true));
});
