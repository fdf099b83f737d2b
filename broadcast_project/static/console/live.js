// What can change on a page, each two seconds while somebody looks.
"use strict";

document.addEventListener("DOMContentLoaded", () => {
  const box = document.querySelector("[data-live]");
  if (!box) {
    return;
  }
  const PAUSE = 2000;
  const stale = box.querySelector("[data-stale]");
  const shown = new Map(); // the source of each part: the browser's own differs
  let timer = 0;
  let leaving = false;

  function parts(root) {
    return [...root.querySelectorAll("[data-part]")];
  }

  function replace(old, fresh) {
    const focused = old.contains(document.activeElement) ? document.activeElement : null;
    const address = focused && (focused.getAttribute("formaction") || focused.getAttribute("href"));
    old.replaceWith(fresh);
    if (address) {
      const again = [...fresh.querySelectorAll("[formaction], [href]")].find(
        (one) => (one.getAttribute("formaction") || one.getAttribute("href")) === address,
      );
      (again || fresh.querySelector("button, a"))?.focus();
    }
  }

  function show(html) {
    const template = document.createElement("template");
    template.innerHTML = html;
    const fresh = parts(template.content);
    const old = new Map(parts(box).map((part) => [part.dataset.part, part]));
    if (fresh.length !== old.size || fresh.some((part) => !old.has(part.dataset.part))) {
      window.location.reload(); // a job came or went
      return;
    }
    for (const part of fresh) {
      const source = part.outerHTML;
      if (shown.get(part.dataset.part) !== source) {
        shown.set(part.dataset.part, source);
        replace(old.get(part.dataset.part), part);
      }
    }
  }

  async function ask() {
    timer = 0;
    const start = performance.now();
    let late = true;
    try {
      const response = await fetch(box.dataset.live);
      if (response.redirected || response.status === 403) {
        window.location.reload(); // signed out: the login says so
        return;
      }
      if (response.ok && !leaving) {
        show(await response.text());
        late = false;
      }
    } catch {
      // the server restarts: go on asking
    }
    stale.hidden = !late;
    plan(Math.max(PAUSE, 4 * (performance.now() - start)));
  }

  function plan(pause) {
    if (!document.hidden && !timer && !leaving) {
      timer = window.setTimeout(ask, pause);
    }
  }

  document.addEventListener("visibilitychange", () => {
    window.clearTimeout(timer);
    timer = 0;
    plan(0);
  });
  document.addEventListener("submit", () => {
    leaving = true;
    window.clearTimeout(timer);
  });
  window.addEventListener("pageshow", () => {
    leaving = false; // back from the history
    plan(PAUSE);
  });
});
