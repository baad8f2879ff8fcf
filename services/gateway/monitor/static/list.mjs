/** A list of any length, of which only what is seen is in the page. */
import { html, useLayoutEffect, useRef, useState } from "./html.mjs";

const BEYOND = 8; // rows above and below

/** Rows of one height that scroll with the page.
 *
 * `rows` are what is there, `height` a row's pixels, `row(item, index)` makes one, `near` is called when
 * the end comes into view, `seen` with the items that are shown.
 */
export function VirtualList({ rows, height, row, near, seen, label, total, head }) {
  const holder = useRef(null);
  const [range, set] = useState([0, 40]);
  const latest = useRef({});
  latest.current = { rows, height, near, seen };
  useLayoutEffect(() => {
    let due = false;
    const look = () => {
      due = false;
      const { rows: all, height: tall, near: end, seen: tell } = latest.current;
      if (!holder.current) return;
      const top = -holder.current.getBoundingClientRect().top;
      const first = Math.max(0, Math.floor(top / tall) - BEYOND);
      const last = Math.min(all.length, Math.ceil((top + innerHeight) / tall) + BEYOND);
      set((old) => (old[0] === first && old[1] === last ? old : [first, Math.max(first, last)]));
      tell?.(all.slice(first, last));
      if (last >= all.length - BEYOND) end?.();
    };
    const later = () => {
      if (!due) requestAnimationFrame(look);
      due = true;
    };
    look();
    addEventListener("scroll", later, { passive: true });
    addEventListener("resize", later);
    return () => {
      removeEventListener("scroll", later);
      removeEventListener("resize", later);
    };
  }, [rows, height]);
  const [first, last] = range;
  return html`<div class="table" role="table" aria-label=${label} aria-rowcount=${(total ?? rows.length) + 1}>
    ${head}
    <div class="rows" role="rowgroup" ref=${holder} style=${{ height: `${rows.length * height}px` }}>
      <div class="window" role="presentation" style=${{ transform: `translateY(${first * height}px)` }}>
        ${rows.slice(first, last).map((item, index) => row(item, first + index))}
      </div>
    </div></div>`;
}

/** The pixels of a row, which are more where there is little width. */
export function useRowHeight(narrow, wide) {
  const query = matchMedia("(max-width: 47.99rem)");
  const [value, set] = useState(query.matches ? narrow : wide);
  useLayoutEffect(() => {
    const changed = () => set(query.matches ? narrow : wide);
    query.addEventListener("change", changed);
    return () => query.removeEventListener("change", changed);
  }, []);
  return value;
}
