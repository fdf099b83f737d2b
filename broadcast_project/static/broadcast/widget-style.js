// The look of the widget. A page changes it by the variables whose names begin with --broadcast-.

export const style = `
:host {
  --surface: var(--broadcast-surface, #ffffff);
  --ink: var(--broadcast-ink, #181b22);
  --muted: var(--broadcast-muted, #565e6d);
  --line: var(--broadcast-line, #d9dde5);
  --accent: var(--broadcast-accent, #2450d8);
  --on-accent: var(--broadcast-on-accent, #ffffff);
  --urgent: var(--broadcast-urgent, #b3151f);
  --on-urgent: var(--broadcast-on-urgent, #ffffff);
  --urgent-tint: var(--broadcast-urgent-tint, #fff0f0);
  --high: var(--broadcast-high, #8a4b00);
  --radius: var(--broadcast-radius, 12px);

  color-scheme: light dark;
  display: inline-block;
  font: var(--broadcast-font, 1rem / 1.5 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif);
}

@media (prefers-color-scheme: dark) {
  :host {
    --surface: var(--broadcast-surface, #1a1d24);
    --ink: var(--broadcast-ink, #e9ecf2);
    --muted: var(--broadcast-muted, #a4acbb);
    --line: var(--broadcast-line, #3a4150);
    --accent: var(--broadcast-accent, #93b3ff);
    --on-accent: var(--broadcast-on-accent, #0d1530);
    --urgent: var(--broadcast-urgent, #ff8080);
    --on-urgent: var(--broadcast-on-urgent, #2a0306);
    --urgent-tint: var(--broadcast-urgent-tint, #2e191d);
    --high: var(--broadcast-high, #ffc069);
  }
}

/* The one tag without data-target: in a corner. */
:host(:not([data-target])) {
  position: fixed;
  z-index: var(--broadcast-layer, 2147483000);
  inset-block-start: 1rem;
  inset-inline-end: 1rem;
}

:host([data-position^="bottom"]) {
  inset-block: auto 1rem;
}

:host([data-position$="left"]) {
  inset-inline: 1rem auto;
}

:host([hidden]),
[hidden] {
  display: none !important;
}

* {
  box-sizing: border-box;
}

h2,
h3,
p {
  margin: 0;
}

button {
  min-height: 2.25rem;
  padding: 0.25rem 0.75rem;
  border: 1px solid var(--line);
  border-radius: 8px;
  background: var(--surface);
  color: var(--ink);
  font: inherit;
  font-size: 0.875rem;
  font-weight: 550;
  white-space: nowrap;
  cursor: pointer;
}

button:hover {
  border-color: var(--accent);
  color: var(--accent);
}

a {
  color: var(--accent);
}

:focus-visible {
  outline: 3px solid var(--accent);
  outline-offset: 2px;
}

svg {
  width: 1.5rem;
  height: 1.5rem;
  fill: currentColor;
}

.cross {
  display: grid;
  flex: none;
  place-items: center;
  width: 2.25rem;
  padding: 0;
  border-color: transparent;
  background: none;
}

.cross svg {
  width: 1.25rem;
  fill: none;
  stroke: currentColor;
  stroke-width: 2;
  stroke-linecap: round;
}

.unseen {
  position: absolute;
  width: 1px;
  height: 1px;
  overflow: hidden;
  clip-path: inset(50%);
  white-space: nowrap;
}

.bell {
  position: relative;
  display: grid;
  place-items: center;
  width: 2.75rem;
  height: 2.75rem;
  padding: 0;
  border-radius: 50%;
}

.count {
  position: absolute;
  inset-block-start: -0.3rem;
  inset-inline-end: -0.3rem;
  min-width: 1.3rem;
  padding-inline: 0.3rem;
  border-radius: 1rem;
  background: var(--urgent);
  color: var(--on-urgent);
  font-size: 0.75rem;
  font-weight: 700;
  line-height: 1.3rem;
}

/* Above everything else, whatever the page does (popovers) */

[popover] {
  position: fixed;
  margin: 0;
  padding: 0;
  border: 0;
  background: none;
  color: var(--ink);
  overflow: visible;
  overflow-wrap: anywhere;
}

.panel {
  inset: var(--top) var(--right) var(--bottom) var(--left);
  width: min(26rem, calc(100vw - 1rem));
  max-height: min(40rem, var(--room));
  border: 1px solid var(--line);
  border-radius: var(--radius);
  background: var(--surface);
  box-shadow: 0 8px 32px rgb(0 0 0 / 24%);
  overflow-y: auto;
  overscroll-behavior: contain;
  scrollbar-width: thin;
}

@media (max-width: 28rem) {
  .panel {
    inset-inline: 0.5rem;
  }
}

header {
  position: sticky;
  inset-block-start: 0;
  display: flex;
  align-items: center;
  gap: 0.5rem;
  padding: 0.625rem 0.5rem 0.625rem 1rem;
  border-block-end: 1px solid var(--line);
  background: var(--surface);
}

header h2 {
  flex: 1;
  font-size: 1.0625rem;
  outline: none;
}

.state {
  display: flex;
  align-items: center;
  gap: 0.5rem;
  margin: 0.5rem 1rem 0;
  color: var(--muted);
  font-size: 0.875rem;
}

.state:not(:has(button:not([hidden]))):has(.status:empty) {
  display: none;
}

.status {
  flex: 1;
}

.failure:empty {
  display: none;
}

.failure {
  margin: 0.5rem 1rem 0;
  color: var(--urgent);
  font-size: 0.875rem;
}

.messages {
  margin: 0;
  padding: 0;
  list-style: none;
}

.message {
  padding: 0.75rem 1rem;
  border-inline-start: 3px solid transparent;
}

.message:focus-visible {
  outline-offset: -3px;
}

.message + .message {
  border-block-start: 1px solid var(--line);
}

.message.unread {
  border-inline-start-color: var(--accent);
}

.message.unread[data-priority="URGENT"] {
  border-inline-start-color: var(--urgent);
  background: var(--urgent-tint);
}

.message h3 {
  font-size: 1rem;
  font-weight: 500;
  line-height: 1.35;
}

.message.unread h3 {
  font-weight: 700;
}

.meta {
  display: flex;
  flex-wrap: wrap;
  gap: 0 0.4rem;
  color: var(--muted);
  font-size: 0.8125rem;
}

.meta > :not(.priority, .unseen):has(+ *)::after {
  content: "·" / "";
  margin-inline-start: 0.4rem;
}

.priority {
  font-weight: 650;
}

[data-priority="HIGH"] .priority {
  color: var(--high);
}

[data-priority="URGENT"] .priority {
  color: var(--urgent);
}

.actions {
  display: flex;
  gap: 0.25rem;
  margin-block-start: 0.5rem;
}

.actions button:last-child {
  border-color: transparent;
  background: none;
  color: var(--muted);
}

.actions button:last-child:hover {
  color: var(--accent);
  text-decoration: underline;
}

.actions .acknowledge {
  border-color: var(--accent);
  background: var(--accent);
  color: var(--on-accent);
}

.actions .acknowledged {
  align-self: center;
  color: var(--muted);
  font-size: 0.875em;
}

.actions button:only-child {
  margin-inline-start: -0.75rem;
}

.empty {
  padding: 2.5rem 1rem;
  color: var(--muted);
  text-align: center;
}

.panel > button {
  display: block;
  margin: 0.5rem auto 0.75rem;
}

/* Toasts and banners */

.toasts {
  inset: auto 1rem 1rem auto;
  width: min(24rem, calc(100vw - 2rem));
  pointer-events: none;
}

.toast,
.banner {
  display: flex;
  align-items: start;
  gap: 0.5rem;
  margin-block-start: 0.5rem;
  border: 1px solid var(--line);
  border-radius: var(--radius);
  background: var(--surface);
  box-shadow: 0 6px 24px rgb(0 0 0 / 22%);
  pointer-events: auto;
}

.toast {
  align-items: center;
  padding: 0.5rem 0.5rem 0.5rem 1rem;
  font-size: 0.9375rem;
}

.toast p {
  flex: 1;
}

.banners {
  inset: var(--top) 0 auto;
  width: min(48rem, 100vw);
  max-height: min(60vh, var(--room));
  margin-inline: auto;
  overflow-y: auto;
}

.banners:popover-open {
  padding: 0 0.75rem 1rem;
}

.banner {
  padding: 0.75rem 1rem;
  box-shadow: 0 3px 10px rgb(0 0 0 / 22%);
  border-inline-start: 5px solid var(--accent);
}

.banner[data-priority="URGENT"] {
  border-color: var(--urgent);
  background: var(--urgent-tint);
}

.banner .text {
  flex: 1;
  min-width: 0;
}

.banner h2 {
  font-size: 1.0625rem;
  line-height: 1.35;
}

/* What an operator wrote */

.body {
  font-size: 0.9375rem;
  text-align: start;
}

.body > :first-child {
  margin-block-start: 0;
}

.body > :last-child {
  margin-block-end: 0;
}

.body :is(p, ul, ol, pre, table, blockquote) {
  margin-block: 0.375rem;
}

.body :is(h1, h2, h3, h4, h5, h6) {
  margin-block: 0.5rem 0.25rem;
  font-size: 0.9375rem;
  font-weight: 650;
}

.body :is(ul, ol) {
  padding-inline-start: 1.5rem;
}

.body blockquote {
  margin-inline: 0;
  padding-inline-start: 0.75rem;
  border-inline-start: 3px solid var(--line);
  color: var(--muted);
}

.body :is(pre, table) {
  display: block;
  max-width: 100%;
  overflow-x: auto;
  overflow-wrap: normal;
}

.body :is(td, th) {
  padding: 0.2rem 0.5rem;
  border: 1px solid var(--line);
}

.body img {
  max-width: 100%;
}

code {
  font: 0.9em ui-monospace, "SF Mono", "Cascadia Mono", "DejaVu Sans Mono", monospace;
}

@media (prefers-reduced-motion: no-preference) {
  .toast,
  .banner {
    animation: arrive 250ms ease-out;
  }
}

@keyframes arrive {
  from {
    opacity: 0;
    transform: translateY(0.75rem);
  }
}
`;
