/** Markdown of strangers: turned into markup by marked, and what could do harm taken out by DOMPurify. */
import { html, useEffect, useRef, useState } from "./html.mjs";
import { cut, number } from "./words.mjs";

const MOST = 200000;
const ALLOWED = {
  ALLOWED_TAGS: ["a", "b", "blockquote", "br", "code", "del", "details", "div", "dl", "dt", "dd", "em", "h1", "h2", "h3", "h4", "h5", "h6", "hr", "i",
    "img", "kbd", "li", "ol", "p", "pre", "q", "s", "small", "span", "strong", "sub", "summary", "sup", "table", "tbody", "td", "th", "thead", "tr", "ul"],
  ALLOWED_ATTR: ["href", "alt", "src", "title", "colspan", "rowspan", "start", "align"],
  ALLOWED_URI_REGEXP: /^(?:https?:|mailto:|#)/i, ALLOW_DATA_ATTR: false, ALLOW_ARIA_ATTR: false, RETURN_DOM_FRAGMENT: true,
};
let tools = null;

// DOMPurify takes them out. The browser reports to the console what it would not have run even then.
const NOISY = /([\s"'/])(on[a-z]+|style)(?=\s*=)/gi;

async function load() {
  const [{ Marked }, { default: DOMPurify }] = await Promise.all([import("./marked.mjs"), import("./purify.mjs")]);
  const marked = new Marked({ renderer: { html: ({ text }) => text.replace(NOISY, "$1dropped") } });
  return { marked, DOMPurify };
}

/** Links open apart from this page and take nothing with them; pictures of other hosts are named, not loaded. */
function tame(fragment) {
  for (const link of fragment.querySelectorAll("a")) {
    link.target = "_blank";
    link.rel = "noopener noreferrer nofollow";
    if (!link.getAttribute("href")) link.replaceWith(...link.childNodes);
  }
  for (const image of fragment.querySelectorAll("img")) {
    const named = document.createElement("span");
    named.className = "no-picture";
    named.textContent = `[picture${image.alt ? `: ${cut(image.alt, 100)}` : ""}]`;
    image.replaceWith(named);
  }
  for (const heading of fragment.querySelectorAll("h1, h2")) { // those are the page's own
    const lower = document.createElement(heading.tagName === "H1" ? "h3" : "h4");
    lower.append(...heading.childNodes);
    heading.replaceWith(lower);
  }
  for (const table of fragment.querySelectorAll("table")) {
    const around = document.createElement("div");
    around.className = "scroll";
    around.tabIndex = 0;
    around.setAttribute("role", "group");
    around.setAttribute("aria-label", "Table");
    table.replaceWith(around);
    around.append(table);
  }
  return fragment;
}

export function Markdown({ text }) {
  const holder = useRef(null);
  const [error, setError] = useState("");
  useEffect(() => {
    let over = false;
    (tools ??= load()).then(({ marked, DOMPurify }) => {
      if (over || !holder.current) return;
      const markup = marked.parse(text.slice(0, MOST), { async: false, gfm: true });
      holder.current.replaceChildren(tame(DOMPurify.sanitize(markup, ALLOWED)));
    }).catch((fault) => {
      tools = null;
      if (!over) setError(fault.message);
    });
    return () => {
      over = true;
    };
  }, [text]);
  if (error) return html`<pre>${cut(text, MOST)}</pre>`;
  return html`<div><div class="page" ref=${holder}></div>${text.length > MOST && html`<p class="quiet">The first ${number(MOST)} of ${number(text.length)} characters.</p>`}</div>`;
}
