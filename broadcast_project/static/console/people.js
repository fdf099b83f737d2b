// The people of a CSV file join the list of an audience; who was not found is named.
"use strict";

// Before unfold's own script, which would look for the text field of its own widget.
for (const file of document.querySelectorAll("[data-people] input[type=file]")) {
  file.hasChangeListener = true;
}

document.addEventListener("DOMContentLoaded", () => {
  const box = document.querySelector("[data-people]");
  if (!box) {
    return;
  }
  const SHOWN = 50;
  const form = box.closest("form");
  const file = box.querySelector("input[type=file]");
  const area = box.parentElement.querySelector("textarea");
  const report = box.querySelector(".console-report");
  const said = report.querySelector("[data-said]");
  const list = report.querySelector("[data-missing]");
  const download = report.querySelector("[data-download]");

  function tell(text, bad) {
    report.hidden = false;
    said.textContent = text;
    said.classList.toggle("console-bad", Boolean(bad));
    list.replaceChildren();
    download.hidden = true;
  }

  function item(text) {
    const li = document.createElement("li");
    li.textContent = text;
    return li;
  }

  function quoted(text) {
    return `"${String(text).replaceAll('"', '""')}"`;
  }

  function name(missing) {
    const words = report.dataset;
    const rows = missing
      .slice(0, SHOWN)
      .map((one) =>
        item(
          words.line
            .replace("{line}", () => one.line)
            .replace("{value}", () => one.value)
            .replace("{reason}", () => one.reason)
        )
      );
    if (missing.length > SHOWN) {
      rows.push(item(words.more.replace("{count}", missing.length - SHOWN)));
    }
    list.replaceChildren(...rows);
    const lines = missing.map((one) => [one.line, one.value, one.reason].map(quoted).join(","));
    const text = `\ufeffline,value,reason\r\n${lines.join("\r\n")}\r\n`;
    URL.revokeObjectURL(download.href);
    download.href = URL.createObjectURL(new Blob([text], { type: "text/csv" }));
    download.hidden = false;
  }

  file.addEventListener("change", async () => {
    if (!file.files.length) {
      return;
    }
    const body = new FormData();
    body.set("file", file.files[0]);
    tell(report.dataset.reading);
    try {
      const response = await fetch(box.dataset.people, {
        method: "POST",
        body,
        headers: { "X-CSRFToken": form.querySelector("[name=csrfmiddlewaretoken]").value },
      });
      if (!response.ok || response.redirected) {
        throw new Error(response.statusText);
      }
      const answer = await response.json();
      tell(answer.error || answer.said, answer.error);
      if (answer.error) {
        return;
      }
      area.value = [area.value.trim(), answer.ids.join("\n")].filter(Boolean).join("\n");
      area.dispatchEvent(new Event("input", { bubbles: true }));
      if (answer.missing.length) {
        name(answer.missing);
      }
    } catch {
      tell(report.dataset.failed, true);
    } finally {
      file.value = ""; // so that the same file, corrected, can be chosen again
    }
  });
});
