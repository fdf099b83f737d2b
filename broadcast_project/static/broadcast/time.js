// Moments, as people say them; the exact one on hover.

const language = document.documentElement.lang || undefined; // the browser's
const relative = new Intl.RelativeTimeFormat(language, { numeric: "auto" });
const absolute = new Intl.DateTimeFormat(language, { dateStyle: "full", timeStyle: "medium" });
const STEPS = [
  ["second", 60],
  ["minute", 60],
  ["hour", 24],
  ["day", 30],
  ["month", 12],
  ["year", Infinity],
];
const REFRESH = 20_000;

export function showMoment(element, iso) {
  const moment = new Date(iso);
  element.dateTime = iso;
  element.title = absolute.format(moment);
  element.textContent = fromNow(moment);
}

export function fromNow(moment) {
  let distance = (moment - Date.now()) / 1000;
  if (Math.abs(distance) < 10) return relative.format(0, "second");
  for (const [unit, size] of STEPS) {
    const rounded = Math.round(distance);
    if (Math.abs(rounded) < size) return relative.format(rounded, unit);
    distance /= size;
  }
}

export function keepMomentsFresh(root = document) {
  setInterval(() => {
    for (const element of root.querySelectorAll("time[datetime]")) {
      element.textContent = fromNow(new Date(element.dateTime));
    }
  }, REFRESH);
}
