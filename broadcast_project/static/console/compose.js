// The pickers of an audience, whom it reaches, and the preview of what is written.
"use strict";

document.addEventListener("DOMContentLoaded", () => {
  const form = document.querySelector("[data-preview]")?.closest("form");
  const targets = document.querySelector("[data-targets]");
  const $ = window.django && window.django.jQuery;
  if (!form) {
    return;
  }
  const token = form.querySelector("[name=csrfmiddlewaretoken]").value;

  function later(pause, call) {
    let timer = 0;
    return () => {
      window.clearTimeout(timer);
      timer = window.setTimeout(call, pause);
    };
  }

  // Only the last question's answer counts.
  function asker(url, ask, show, fail) {
    let controller = null;
    return async () => {
      if (controller) {
        controller.abort();
      }
      const mine = (controller = new AbortController());
      try {
        const response = await fetch(url, {
          method: "POST",
          body: ask(),
          headers: { "X-CSRFToken": token },
          signal: mine.signal,
        });
        if (!response.ok || response.redirected) {
          throw new Error(response.statusText);
        }
        show(await response.json());
      } catch (error) {
        if (error.name !== "AbortError") {
          fail();
        }
      }
    };
  }

  // Preview
  const editor = document.querySelector("[data-preview]");
  const area = editor.querySelector("textarea");
  const html = editor.querySelector("[data-preview-html]");
  const empty = html.innerHTML;
  const preview = asker(
    editor.dataset.preview,
    () => {
      const body = new FormData();
      body.set("content", area.value);
      return body;
    },
    (answer) => {
      if (answer.error) {
        html.textContent = answer.error;
      } else {
        html.innerHTML = answer.html || empty; // sanitised by the server
      }
    },
    () => {}
  );
  area.addEventListener("input", later(250, preview));
  if (area.value) {
    preview();
  }

  if (!targets || !$) {
    return; // a template reaches nobody
  }

  // Whom it reaches
  const sentence = targets.querySelector("[data-reach-text]");
  const people = targets.querySelector("[data-reach-people]");
  const search = targets.querySelector("[data-reach-search]");

  function item(text, className) {
    const li = document.createElement("li");
    li.textContent = text;
    li.className = className || "";
    return li;
  }

  function tell(text, bad) {
    sentence.textContent = text;
    sentence.classList.toggle("console-bad", Boolean(bad));
  }

  const reach = asker(
    targets.dataset.reach,
    () => {
      const body = new FormData();
      for (const [name, value] of new FormData(form)) {
        if (name === "audience" || name.startsWith("targets_")) {
          body.append(name, value);
        }
      }
      body.set("search", search.value);
      return body;
    },
    (answer) => {
      if (answer.error || answer.hint) {
        tell(answer.error || answer.hint, answer.error);
        people.replaceChildren();
        search.hidden = true;
        return;
      }
      const count = answer.count.toLocaleString(document.documentElement.lang || undefined);
      tell(
        answer.count === 1 ? sentence.dataset.one : sentence.dataset.many.replace("{count}", count),
        answer.count === 0
      );
      search.hidden = answer.count === 0;
      const rows = answer.people.map((name) => item(name));
      if (!rows.length && search.value) {
        rows.push(item(people.dataset.nobody, "text-subtle"));
      }
      people.replaceChildren(...rows);
    },
    () => tell(sentence.dataset.failed, true)
  );
  const reachSoon = later(250, reach);
  search.addEventListener("input", reachSoon);
  search.addEventListener("keydown", (event) => {
    if (event.key === "Enter") {
      event.preventDefault(); // it must not submit the draft
    }
  });
  targets.querySelector("textarea").addEventListener("input", reachSoon);

  // Pickers
  for (const select of targets.querySelectorAll("select")) {
    const options = { width: "100%", placeholder: select.dataset.placeholder };
    if (select.dataset.search) {
      options.ajax = {
        url: targets.dataset.choices,
        delay: 200,
        data: (params) => ({
          audience: select.dataset.search,
          term: params.term || "",
          page: params.page || 1,
        }),
        processResults: (answer) => {
          if (answer.error) {
            tell(answer.error, true);
          }
          return answer;
        },
      };
    }
    $(select).select2(options).on("change", reachSoon);
  }

  function choose() {
    const chosen = form.querySelector("input[name=audience]:checked");
    for (const picker of targets.querySelectorAll("[data-audience]")) {
      picker.hidden = !chosen || picker.dataset.audience !== chosen.value;
    }
    reach();
  }
  for (const radio of form.querySelectorAll("input[name=audience]")) {
    radio.addEventListener("change", choose);
  }
  choose();
});
