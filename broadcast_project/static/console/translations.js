// The blocks of a text in other languages. A "fill" event replaces them by its `detail`, pairs of
// a language and a text.
"use strict";

document.addEventListener("DOMContentLoaded", () => {
  for (const editor of document.querySelectorAll("[data-translations]")) {
    const rows = editor.querySelector("[data-translations-rows]");
    const blank = editor.querySelector("template");

    function changed() {
      editor.dispatchEvent(new Event("input", { bubbles: true })); // the copy of a draft is kept
    }

    function add(language = "", { title = "", content = "" } = {}) {
      const row = blank.content.cloneNode(true).firstElementChild;
      const [select, input, area] = row.querySelectorAll("select, input, textarea");
      if (language && ![...select.options].some(({ value }) => value === language)) {
        select.add(new Option(language, language));
      }
      select.value = language;
      input.value = title;
      area.value = content;
      rows.append(row);
      return select;
    }

    editor
      .querySelector("[data-translations-add]")
      .addEventListener("click", () => add().focus());
    rows.addEventListener("click", (event) => {
      if (event.target.closest("[data-translations-remove]")) {
        event.target.closest("fieldset").remove();
        changed();
      }
    });
    editor.addEventListener("fill", ({ detail }) => {
      rows.replaceChildren();
      for (const [language, text] of detail) {
        add(language, text);
      }
      changed();
    });
  }
});
