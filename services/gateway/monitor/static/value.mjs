/** A JSON value: as a tree that opens bit by bit, as text, and texts in it that are Markdown as pages. */
import { html, useState } from "./html.mjs";
import { Markdown } from "./markdown.mjs";
import { Copy } from "./parts.mjs";
import { cut, number } from "./words.mjs";

const OPEN_ITEMS = 20, PAGE = 100, LONG = 300, MOST_TEXT = 200000, MOST_COPY = 2000000;
const MARKDOWN = /(^|\n)(#{1,6} \S|[-*] \S|\d+\. \S|> |```|\|.*\|)|\[[^\]\n]*\]\([^)\n]*\)|\*\*[^*\n]+\*\*/;

/** The longest text of a value that is Markdown, with its name. */
function page_of(value) {
  const texts = typeof value === "string" ? [["", value]] : value && typeof value === "object" && !Array.isArray(value) ? Object.entries(value).filter(([, one]) => typeof one === "string") : [];
  return texts.filter(([, text]) => text.length > 20 && MARKDOWN.test(text)).sort((a, b) => b[1].length - a[1].length)[0];
}

export function Value({ value, name }) {
  const page = page_of(value);
  const [view, set] = useState(page ? "page" : "tree");
  const text = view === "text" || view === "tree" ? JSON.stringify(value, null, 2) : "";
  const choices = [...(page ? [["page", page[0] ? `Page: ${cut(page[0], 20)}` : "Page"]] : []), ["tree", "Tree"], ["text", "JSON"]];
  return html`<div class="value"><div class="row tight"><div class="choices" role="group" aria-label=${`How the ${name} is shown`}>${choices.map(([one, words]) => html`<button type="button" key=${one} aria-pressed=${one === view} onClick=${() => set(one)}>${words}</button>`)}</div>
      ${text && text.length <= MOST_COPY && html`<${Copy} text=${text} what=${`the ${name}`} />`}</div>
    ${view === "page" && page ? html`<${Markdown} text=${page[1]} />`
    : view === "text" ? html`<pre tabindex="0" aria-label=${name}><code>${cut(text, MOST_TEXT)}</code></pre>`
    : html`<div class="tree"><${Node} value=${value} isOpen=${true} /></div>`}</div>`;
}

function Node({ name, value, isOpen }) {
  const [open, setOpen] = useState(Boolean(isOpen));
  const [most, setMost] = useState(OPEN_ITEMS);
  const label = name === undefined ? null : html`<span class="name">${cut(String(name), LONG)}</span>`;
  if (value === null || typeof value !== "object") return html`<div class="leaf">${label}<${Leaf} value=${value} /></div>`;
  const isList = Array.isArray(value);
  const names = isList ? null : Object.keys(value);
  const size = isList ? value.length : names.length;
  const count = isList ? `${number(size)} in a list` : `${number(size)} ${size === 1 ? "field" : "fields"}`;
  if (!size) return html`<div class="leaf">${label}<code class="quiet">${isList ? "[]" : "{}"}</code></div>`;
  return html`<div class="branch"><button type="button" class="fold" aria-expanded=${open} onClick=${() => setOpen(!open)}><span class="arrow" aria-hidden="true"></span>${label} <span class="quiet">${count}</span></button>
    ${open && html`<div class="inside">${Array.from({ length: Math.min(size, most) }, (_, index) => {
      const key = isList ? index : names[index];
      return html`<${Node} key=${key} name=${key} value=${value[key]} isOpen=${size <= 5 && name === undefined} />`;
    })}${size > most && html`<button type="button" class="small" onClick=${() => setMost(most + PAGE)}>${number(Math.min(PAGE, size - most))} more of ${number(size - most)}</button>`}</div>`}</div>`;
}

function Leaf({ value }) {
  const [isWhole, setWhole] = useState(false);
  if (typeof value !== "string") return html`<code class="atom" data-type=${value === null ? "null" : typeof value}>${String(value)}</code>`;
  const text = isWhole ? value : cut(value, LONG);
  return html`<span class=${value.includes("\n") ? "text several" : "text"}>${text}${value.length > LONG && html` <button type="button" class="small" onClick=${() => setWhole(!isWhole)}>${isWhole ? "Less" : `All ${number(value.length)} characters`}</button>`}</span>`;
}
