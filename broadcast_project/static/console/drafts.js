// What is typed outlives its tab, in this browser; and who else has the draft open.
"use strict";

document.addEventListener("DOMContentLoaded", () => {
  const box = document.querySelector("[data-copies]");
  if (!box) {
    return;
  }
  const form = document.getElementById("broadcast_form"); // not where it is only shown
  const words = box.dataset;
  const OLDEST = 30 * 24 * 3600 * 1000; // ms
  const WITHOUT = new Set(["csrfmiddlewaretoken", "version", "copy"]);
  const TYPES = new Set(["file", "submit", "button"]);
  const prefix = `broadcast-copy:${words.person}:`;
  const mine = `${prefix}${words.object}:`;
  const saved = new Set(JSON.parse(document.getElementById("saved-copies").textContent || "[]"));

  function input(name) {
    return form.elements.namedItem(name);
  }

  // Copies

  function stored() {
    const found = [];
    for (const key of Object.keys(localStorage)) {
      if (key.startsWith(prefix)) {
        try {
          found.push({ key, id: key.split(":").pop(), ...JSON.parse(localStorage.getItem(key)) });
        } catch {
          localStorage.removeItem(key);
        }
      }
    }
    return found.sort((one, other) => other.at - one.at);
  }

  function collect() {
    const fields = {};
    for (const element of form.elements) {
      if (!element.name || WITHOUT.has(element.name) || TYPES.has(element.type)) {
        continue;
      }
      const values = (fields[element.name] ||= []);
      if (element.type === "select-multiple") {
        values.push(...[...element.selectedOptions].map((option) => option.value));
      } else if (!["checkbox", "radio"].includes(element.type) || element.checked) {
        values.push(element.value);
      }
    }
    return fields;
  }

  function labels() {
    const chosen = [...form.querySelectorAll("select[multiple]")].flatMap((select) => [
      ...select.selectedOptions,
    ]);
    return Object.fromEntries(chosen.map((option) => [option.value, option.text]));
  }

  function translations(copy) {
    const [languages, titles, contents] = ["language", "title", "content"].map(
      (part) => copy.fields[`translations_${part}`] || [],
    );
    return languages.map((language, at) => [
      language,
      { title: titles[at] ?? "", content: contents[at] ?? "" },
    ]);
  }

  function apply(copy) {
    const $ = window.django && window.django.jQuery;
    const editor = form.querySelector("[data-translations]");
    editor?.dispatchEvent(new CustomEvent("fill", { detail: translations(copy) }));
    for (const element of form.elements) {
      const values = copy.fields[element.name];
      const isElsewhere = WITHOUT.has(element.name) || element.name.startsWith("translations_");
      if (!values || isElsewhere || TYPES.has(element.type)) {
        continue;
      }
      if (element.type === "select-multiple") {
        for (const value of values) {
          if (![...element.options].some((option) => option.value === value)) {
            element.add(new Option(copy.labels[value] || value, value));
          }
        }
        for (const option of element.options) {
          option.selected = values.includes(option.value);
        }
      } else if (["checkbox", "radio"].includes(element.type)) {
        element.checked = values.includes(element.value);
      } else {
        const value = values[0] ?? "";
        const options = [...(element.options || [])].map((option) => option.value);
        if (value && element.type === "select-one" && !options.includes(value)) {
          element.add(new Option(value, value));
        }
        element.value = value;
      }
    }
    for (const element of form.elements) {
      if (element.type === "select-multiple" && $) {
        $(element).trigger("change");
      } else if (element.type !== "radio" || element.checked) {
        element.dispatchEvent(new Event("input", { bubbles: true }));
        element.dispatchEvent(new Event("change", { bubbles: true }));
      }
    }
  }

  function offer(copy) {
    const line = document.createElement("div");
    line.className = "console-alarm console-alarm-mild";
    line.dataset.offered = copy.id;
    const text = document.createElement("div");
    const sentence = document.createElement("strong");
    const title = (copy.fields.title || [])[0] || words.untitled;
    const time = new Date(copy.at).toLocaleString(document.documentElement.lang || undefined, {
      dateStyle: "medium",
      timeStyle: "short",
    });
    sentence.textContent = words.offer.replace("{time}", time).replace("{title}", () => title);
    text.append(sentence);
    function button(label, act) {
      const one = document.createElement("button");
      one.type = "button";
      one.textContent = label;
      one.addEventListener("click", () => {
        line.remove();
        act();
      });
      text.append(one);
    }
    if (form) {
      button(words.restore, () => {
        name(copy.id);
        if (copy.version && input("version")) {
          input("version").value = copy.version; // what others saved since is shown before it goes
        }
        apply(copy);
      });
    } else if (words.add) {
      button(words.asNew, () => {
        const { key, ...rest } = copy;
        localStorage.setItem(`${prefix}new:${copy.id}`, JSON.stringify({ ...rest, version: "" }));
        localStorage.removeItem(key);
        window.location.assign(words.add);
      });
    }
    button(words.discard, () => localStorage.removeItem(copy.key));
    line.append(text);
    box.append(line);
  }

  const before = form && JSON.stringify(collect());
  let id = "";
  function name(given) {
    id = given || crypto.randomUUID?.() || `${Date.now()}`;
    input("copy").value = id;
  }
  if (form) {
    name(input("copy").value);
  }
  for (const copy of stored()) {
    if (saved.has(copy.id) || Date.now() - copy.at > OLDEST) {
      localStorage.removeItem(copy.key);
    } else if (copy.key.startsWith(mine) && copy.id !== id) {
      if (form && JSON.stringify(copy.fields) === before) {
        localStorage.removeItem(copy.key);
      } else {
        offer(copy);
      }
    }
  }
  if (!form) {
    return;
  }

  const refused = Boolean(form.querySelector(".errornote"));
  let timer = 0;

  function keep() {
    window.clearTimeout(timer);
    timer = 0;
    const fields = collect();
    if (!refused && JSON.stringify(fields) === before) {
      localStorage.removeItem(mine + id);
      return;
    }
    const version = input("version") ? input("version").value : "";
    const copy = { at: Date.now(), version, fields, labels: labels() };
    const full = box.querySelector("[data-full]");
    try {
      localStorage.setItem(mine + id, JSON.stringify(copy));
      full.hidden = true;
    } catch {
      full.textContent = words.tooLong; // better said than lost
      full.hidden = false;
    }
  }

  function keepSoon() {
    timer ||= window.setTimeout(keep, 400);
  }

  form.addEventListener("input", keepSoon);
  form.addEventListener("change", keepSoon);
  if (window.django && window.django.jQuery) {
    window.django.jQuery(form).on("change", "select", keepSoon); // Select2 tells only jQuery
  }
  window.addEventListener("pagehide", () => timer && keep());
  // Back from where it was saved: what is typed from now on is another copy than the saved one.
  window.addEventListener("pageshow", (event) => event.persisted && name());

  // The others

  function show(selector, text) {
    const line = box.querySelector(selector);
    line.hidden = !text;
    if (line.textContent !== text) {
      line.textContent = text;
    }
  }

  async function ask() {
    if (document.hidden) {
      return;
    }
    const body = new FormData();
    body.set("version", input("version").value);
    const token = form.querySelector("[name=csrfmiddlewaretoken]").value;
    try {
      const response = await fetch(words.editing, {
        method: "POST",
        body,
        headers: { "X-CSRFToken": token },
      });
      if (response.ok && !response.redirected) {
        const answer = await response.json();
        show("[data-others]", answer.others);
        show("[data-changed]", answer.changed);
      }
    } catch {
      // the server restarts: go on asking
    }
  }

  if (words.editing) {
    ask();
    window.setInterval(ask, 10000);
    document.addEventListener("visibilitychange", ask);
  }
});
