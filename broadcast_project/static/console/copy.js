// A button with data-copy puts the text of that element on the clipboard.
"use strict";

for (const button of document.querySelectorAll("[data-copy]")) {
  button.addEventListener("click", async () => {
    const source = document.getElementById(button.dataset.copy);
    try {
      await navigator.clipboard.writeText(source.textContent);
    } catch {
      // No permission, or no HTTPS: the old way, which works by what is selected.
      getSelection().selectAllChildren(source);
      document.execCommand("copy");
    }
    document.getElementById("copied").textContent = button.dataset.done;
  });
}
