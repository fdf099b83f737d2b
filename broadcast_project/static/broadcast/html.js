// The only HTML that is put on a page: what the server has rendered and sanitised.

const HEADINGS_ABOVE = 2; // the page's, and the message's own

export function fillBody(body, html) {
  body.innerHTML = html;
  body.hidden = !html;
  for (const heading of body.querySelectorAll("h1, h2, h3, h4, h5, h6")) {
    const level = Math.min(Number(heading.tagName[1]) + HEADINGS_ABOVE, 6);
    heading.setAttribute("aria-level", level);
  }
  for (const block of body.querySelectorAll("pre, table")) block.tabIndex = 0; // they scroll
}
