// Tells the server what was on screen: most of it, for a second, in a tab that is looked at.

const SHARE = 0.6;
const DWELL = 1_000;
const BATCH_EVERY = 2_000;
const REST_AFTER_FAILURE = 15_000;

export class SeenReporter {
  #since = new Map(); // element → when it came into view
  #reported = new Set();
  #waiting = new Set();
  #restUntil = 0;

  constructor(api) {
    this.api = api;
    // Fine steps: of a tall message a window shows a small share, and must be asked often enough.
    const threshold = Array.from({ length: 51 }, (_, step) => step / 50);
    this.observer = new IntersectionObserver((entries) => this.#look(entries), { threshold });
    setInterval(() => this.#collect(), DWELL / 2);
    setInterval(() => this.#send(), BATCH_EVERY);
    document.addEventListener("visibilitychange", () => this.#startAgain());
    addEventListener("pagehide", () => this.#send());
  }

  watch(element) {
    if (!this.#reported.has(idOf(element))) this.observer.observe(element);
  }

  /** The server has not heard of it: report it, even if that was done. */
  again(element) {
    this.#reported.delete(idOf(element));
    this.watch(element);
  }

  forget(element) {
    this.observer.unobserve(element);
    this.#since.delete(element);
  }

  /** Not to be reported any more: the message is gone. */
  drop(id) {
    this.#waiting.delete(id);
  }

  #look(entries) {
    for (const { target, intersectionRatio, intersectionRect, rootBounds } of entries) {
      // What is taller than the window never shows 60 % of itself: 60 % of the window will do.
      const fills = rootBounds && intersectionRect.height >= SHARE * rootBounds.height;
      if (intersectionRatio < SHARE && !fills) this.#since.delete(target);
      else if (!this.#since.has(target)) this.#since.set(target, Date.now());
    }
  }

  #startAgain() {
    for (const element of this.#since.keys()) this.#since.set(element, Date.now());
  }

  #collect() {
    if (document.hidden) return;
    for (const [element, since] of this.#since) {
      if (Date.now() - since < DWELL) continue;
      this.#waiting.add(idOf(element));
      this.forget(element);
    }
  }

  async #send() {
    const ids = [...this.#waiting];
    if (!ids.length || Date.now() < this.#restUntil) return;
    this.#waiting.clear();
    await this.#report(ids);
  }

  async #report(ids) {
    try {
      await this.api.markSeen(ids);
      for (const id of ids) this.#reported.add(id);
    } catch (error) {
      this.#recover(ids, error);
    }
  }

  #recover(ids, error) {
    if (error.passing) {
      for (const id of ids) this.#waiting.add(id);
      this.#restUntil = Date.now() + REST_AFTER_FAILURE;
    } else if (ids.length > 1) {
      for (const id of ids) this.#report([id]); // one that is gone must not hide the others
    }
  }
}

function idOf(element) {
  return Number(element.dataset.id);
}
