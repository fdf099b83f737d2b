// The part of a broadcast's page that takes a moment to count, and its export with progress.
"use strict";

document.addEventListener("DOMContentLoaded", () => {
  const box = document.querySelector("[data-proof]");
  if (!box) {
    return;
  }
  const words = box.querySelector("[data-waiting]");
  const button = box.querySelector("[data-again]");
  const content = box.querySelector("[data-content]");

  async function load() {
    button.disabled = true;
    words.hidden = content.childElementCount > 0;
    words.textContent = words.dataset.waiting;
    try {
      const response = await fetch(box.dataset.proof);
      if (response.redirected || !response.ok) {
        throw new Error(response.status);
      }
      content.innerHTML = await response.text();
      words.hidden = true;
    } catch {
      words.textContent = words.dataset.failed;
      words.hidden = false;
    }
    button.disabled = false;
  }

  // The browser's own download has no length to show how far it is.
  async function save(link) {
    const line = link.parentElement;
    const bar = line.querySelector("progress");
    const status = line.querySelector("[role=status]");
    link.setAttribute("aria-disabled", "true");
    bar.value = 0;
    bar.hidden = false;
    try {
      const response = await fetch(link.href);
      if (response.redirected || !response.ok) {
        throw new Error(response.status);
      }
      const total = Number(response.headers.get("X-Total-Count"));
      const parts = [];
      let count = -1; // the first line names the columns
      for (const reader = response.body.getReader(); ; ) {
        const { done, value } = await reader.read();
        if (done) {
          break;
        }
        parts.push(value);
        count += value.reduce((lines, byte) => lines + (byte === 10), 0);
        bar.value = total ? count / total : 1;
        status.textContent = say(status.dataset.underWay, count, total);
      }
      const name = /filename="([^"]+)"/.exec(response.headers.get("Content-Disposition"))[1];
      keep(new Blob(parts, { type: "text/csv" }), name);
      status.textContent = say(status.dataset.done, count, total);
    } catch {
      status.textContent = status.dataset.failed;
    }
    bar.hidden = true;
    link.removeAttribute("aria-disabled");
  }

  function say(text, count, total) {
    return text
      .replace("{count}", count.toLocaleString())
      .replace("{total}", total.toLocaleString());
  }

  function keep(blob, name) {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(blob);
    link.download = name;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
  }

  button.addEventListener("click", load);
  content.addEventListener("click", (event) => {
    const link = event.target.closest("[data-export]");
    if (link) {
      event.preventDefault();
      if (link.getAttribute("aria-disabled") !== "true") {
        save(link);
      }
    }
  });
  load();
});
