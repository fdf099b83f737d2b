// The numbers of one broadcast, each second while somebody looks and something can still change.
"use strict";

document.addEventListener("DOMContentLoaded", () => {
  const box = document.querySelector("[data-numbers]");
  if (!box || box.dataset.moving !== "yes") {
    return;
  }
  let timer = 0;
  let last = "";
  let quiet = 0; // answers in a row that changed nothing

  function text(element, value) {
    if (element && element.textContent !== value) {
      element.textContent = value;
    }
  }

  function show(numbers) {
    text(box.querySelector("[data-targeted]"), numbers.targeted);
    text(box.querySelector("[data-progress]"), numbers.progress);
    const bar = box.querySelector("[data-total]");
    if (bar) {
      bar.style.width = `${(100 * numbers.progress_count) / Number(bar.dataset.total)}%`;
    }
    for (const stage of numbers.stages) {
      const cell = box.querySelector(`[data-stage="${stage.name}"]`);
      text(cell.querySelector("[data-count]"), stage.count);
      text(cell.querySelector("[data-rate]"), stage.rate);
      cell.querySelector("[data-width]").style.width = `${stage.width}%`;
    }
  }

  async function ask() {
    timer = 0;
    const start = performance.now();
    try {
      const response = await fetch(box.dataset.numbers, { headers: { Accept: "application/json" } });
      if (response.redirected || response.status === 403) {
        return; // signed out: a reload asks for the login
      }
      if (response.ok) {
        const body = await response.text();
        const numbers = JSON.parse(body);
        if (numbers.status !== box.dataset.status) {
          window.location.reload(); // other buttons, another timeline
          return;
        }
        quiet = body === last ? quiet + 1 : 0;
        last = body;
        show(numbers);
        if (!numbers.moving) {
          return;
        }
      }
    } catch {
      quiet += 1; // the server restarts: go on asking
    }
    const pause = quiet < 60 ? 1000 : 10000;
    plan(Math.max(pause, 4 * (performance.now() - start)));
  }

  function plan(pause) {
    if (!document.hidden && !timer) {
      timer = window.setTimeout(ask, pause);
    }
  }

  document.addEventListener("visibilitychange", () => {
    if (document.hidden) {
      window.clearTimeout(timer);
      timer = 0;
    } else {
      quiet = 0;
      plan(0);
    }
  });
  plan(1000);
});
