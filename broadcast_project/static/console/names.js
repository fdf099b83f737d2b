// Names that unfold and select2 leave out, for who hears a page and does not see it.
"use strict";

(() => {
  // A cell of a row of a form: what heads its column names it.
  function nameCells(root) {
    for (const cell of root.querySelectorAll("td.field-tabular[data-label]")) {
      for (const control of cell.querySelectorAll("input:not([type=hidden]), select, textarea")) {
        control.setAttribute("aria-label", cell.dataset.label);
      }
    }
  }

  // select2 names its box by what is chosen: nothing, while nothing is.
  function nameChoices() {
    for (const select of document.querySelectorAll("select.select2-hidden-accessible")) {
      const label = document.querySelector(`label[for="${select.id}"]`);
      const name = label ? label.textContent.replace("*", "").trim() : select.ariaLabel;
      const box = select.nextElementSibling;
      if (!name || !box) {
        continue;
      }
      for (const part of box.querySelectorAll(".select2-selection, .select2-search__field")) {
        part.setAttribute("aria-label", name);
      }
      const chosen = box.querySelector(".select2-selection__rendered[role=textbox]");
      if (chosen) {
        chosen.setAttribute("aria-label", name);
        const selection = box.querySelector(".select2-selection");
        selection.id = selection.id || `${select.id}-choice`;
        selection.setAttribute("aria-labelledby", `${selection.id} ${chosen.id}`);
      }
    }
  }

  function isChoice(node) {
    return node.classList?.contains("select2-container");
  }

  document.addEventListener("DOMContentLoaded", () => {
    document.getElementById("main")?.setAttribute("role", "main");
    nameCells(document);
    nameChoices();
    const watch = new MutationObserver((changes) => {
      if (changes.some((change) => [...change.addedNodes].some(isChoice))) {
        nameChoices(); // select2 makes its boxes when it likes
      }
    });
    watch.observe(document.body, { childList: true, subtree: true });
  });
  document.addEventListener("formset:added", (event) => nameCells(event.target));
})();
