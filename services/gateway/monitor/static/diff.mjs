/** The difference between two values, line by line, for who has to judge a change. */
import { html, useMemo, useState } from "./html.mjs";
import { number, plural } from "./words.mjs";

const MOST_LINES = 20000, MOST_CELLS = 4000000, AROUND = 3, PAGE = 400;

/** A value as lines that can be compared: fields by name, and texts of several lines as these. */
export function linesOf(value, depth = 0, name = "", found = []) {
  const pad = "  ".repeat(depth), label = name === "" ? "" : `${name}: `;
  if (found.length >= MOST_LINES) return found;
  if (typeof value === "string") {
    const lines = value.split(/\r?\n/);
    if (lines.length === 1) found.push(`${pad}${label}${value}`);
    else {
      if (label) found.push(`${pad}${label.trim()}`);
      for (const line of lines) found.push(`${label ? `${pad}  ` : pad}${line}`);
    }
  } else if (value === null || typeof value !== "object") found.push(`${pad}${label}${JSON.stringify(value) ?? "nothing"}`);
  else {
    const isList = Array.isArray(value), names = isList ? value.map((_, place) => place) : Object.keys(value).sort();
    if (!names.length) found.push(`${pad}${label}${isList ? "[]" : "{}"}`);
    else {
      if (label) found.push(`${pad}${label.trim()}`);
      for (const one of names) linesOf(value[one], label ? depth + 1 : depth, isList ? `${one + 1}` : one, found);
    }
  }
  return found;
}

/** What was taken out and put in: `[sign, text]`, by the longest common sequence between what both begin and end with. */
export function compared(old, now) {
  let start = 0, ends = 0;
  while (start < old.length && start < now.length && old[start] === now[start]) start += 1;
  while (ends < old.length - start && ends < now.length - start && old[old.length - 1 - ends] === now[now.length - 1 - ends]) ends += 1;
  const a = old.slice(start, old.length - ends), b = now.slice(start, now.length - ends);
  const found = old.slice(0, start).map((text) => [" ", text]);
  const width = b.length + 1;
  if (a.length * b.length > MOST_CELLS) for (const [sign, lines] of [["-", a], ["+", b]]) for (const text of lines) found.push([sign, text]);
  else {
    const best = new Uint32Array((a.length + 1) * width);
    for (let x = a.length - 1; x >= 0; x -= 1) {
      for (let y = b.length - 1; y >= 0; y -= 1) best[x * width + y] = a[x] === b[y] ? best[(x + 1) * width + y + 1] + 1 : Math.max(best[(x + 1) * width + y], best[x * width + y + 1]);
    }
    for (let x = 0, y = 0; x < a.length || y < b.length;) {
      if (x < a.length && y < b.length && a[x] === b[y]) found.push([" ", a[x]]), x += 1, y += 1;
      else if (y >= b.length || (x < a.length && best[(x + 1) * width + y] >= best[x * width + y + 1])) found.push(["-", a[x]]), x += 1;
      else found.push(["+", b[y]]), y += 1;
    }
  }
  for (const text of old.slice(old.length - ends)) found.push([" ", text]);
  return found;
}

/** What is shown: changes with some lines around each, and `null` where the same lines are left out. */
function chosen(lines) {
  const near = new Uint8Array(lines.length);
  lines.forEach(([sign], place) => {
    if (sign !== " ") near.fill(1, Math.max(0, place - AROUND), place + AROUND + 1);
  });
  const shown = [];
  let left = 0;
  lines.forEach((line, place) => {
    if (near[place]) {
      if (left) shown.push([null, left]);
      left = 0;
      shown.push(line);
    } else left += 1;
  });
  if (left) shown.push([null, left]);
  return shown;
}

const Line = ({ sign, text }) => (sign === null ? html`<div class="same quiet">${plural(text, "line")} the same</div>`
  : html`<div class="changed" data-sign=${sign}><span aria-hidden="true">${sign}</span>${sign === "+" ? html`<ins><span class="sr">added: </span>${text}</ins>` : sign === "-" ? html`<del><span class="sr">removed: </span>${text}</del>` : html`<span>${text}</span>`}</div>`);

export function Difference({ old, now }) {
  const [most, setMost] = useState(PAGE);
  const lines = useMemo(() => compared(linesOf(old), linesOf(now)), [old, now]);
  const count = (sign) => lines.filter(([one]) => one === sign).length;
  const added = count("+"), removed = count("-");
  if (!added && !removed) return html`<p>Nothing has changed.</p>`;
  const shown = chosen(lines);
  return html`<p class="quiet">${plural(added, "line")} added, ${plural(removed, "line")} removed</p>
    <div class="diff" tabindex="0" role="group" aria-label="Difference">${shown.slice(0, most).map(([sign, text], place) => html`<${Line} key=${place} sign=${sign} text=${text} />`)}</div>
    ${shown.length > most && html`<button type="button" class="small" onClick=${() => setMost(most + PAGE)}>Show more of ${number(shown.length - most)} lines</button>`}`;
}
