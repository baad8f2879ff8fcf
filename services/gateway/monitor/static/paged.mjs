/** Lists that come in pages, the tables that they are shown in, and what is read again now and then. */
import { html, useCallback, useEffect, useRef, useState } from "./html.mjs";
import { raw } from "./api.mjs";

/** A list: `load(cursor, signal)` gives `[rows, cursor]`, `idOf` what is the same row.
 *
 * All pages that are shown are read again, one after the other: rows that come push others from one page to the next, and
 * rows that go pull them back. Whoever asks meanwhile is served by one more reading after that.
 */
export function usePages(load, idOf, on) {
  const place = JSON.stringify(on);
  const [found, set] = useState({ place, pages: null, error: null });
  const at = useRef(null);
  const latest = useRef(load);
  latest.current = load;
  useEffect(() => {
    const stop = new AbortController();
    const mine = at.current = { wanted: 1, isBusy: false, isDue: false, again: null };
    const read = async () => {
      const pages = [];
      for (let cursor; pages.length < mine.wanted && (!pages.length || cursor);) {
        const page = await latest.current(cursor, stop.signal);
        pages.push(page);
        cursor = page[1];
      }
      return pages;
    };
    mine.again = async () => {
      mine.isDue = true;
      if (mine.isBusy) return;
      mine.isBusy = true;
      while (mine.isDue && !stop.signal.aborted) {
        mine.isDue = false;
        try {
          const pages = await read();
          if (!stop.signal.aborted) set({ place, pages, error: null });
        } catch (error) {
          if (stop.signal.aborted) return;
          mine.wanted = Math.max(1, mine.shown ?? 1);
          set((old) => ({ ...old, place, error }));
        }
      }
      mine.isBusy = false;
    };
    set({ place, pages: null, error: null });
    mine.again();
    return () => stop.abort();
  }, [place]);
  const pages = found.place === place ? found.pages : null;
  if (at.current) at.current.shown = pages?.length;
  const rows = new Map((pages ?? []).flatMap(([some]) => some).map((row) => [idOf(row), row]));
  const again = useCallback(() => at.current?.again(), []);
  const further = () => {
    at.current.wanted = pages.length + 1;
    again();
  };
  return { rows: [...rows.values()], isRead: pages !== null, error: found.place === place ? found.error : null, again, further: pages?.at(-1)[1] ? further : null };
}

export const More = ({ further }) => further && html`<div><button type="button" onClick=${further}>Show more</button></div>`;

/** A table that scrolls by itself; `columns` are `[words, class]`, and one whose words nobody sees has `hidden` as its class. */
export const Table = ({ label, columns, children }) => html`<div class="scroll" tabindex="0" role="group" aria-label=${label}><table class="wide-table"><thead><tr>
  ${columns.map(([words, kind = ""]) => html`<th scope="col" key=${words} class=${kind === "hidden" ? "" : kind}>${kind === "hidden" ? html`<span class="sr">${words}</span>` : words}</th>`)}</tr></thead><tbody>${children}</tbody></table></div>`;

/** Read again every so often, while somebody looks; `ms` null is never. */
export function useEvery(ms, tell) {
  const latest = useRef(tell);
  latest.current = tell;
  useEffect(() => {
    if (!ms) return undefined;
    const tick = () => document.hidden || latest.current();
    const timer = setInterval(tick, ms);
    document.addEventListener("visibilitychange", tick);
    return () => {
      clearInterval(timer);
      document.removeEventListener("visibilitychange", tick);
    };
  }, [ms]);
}

/** Give the browser something to store, under a name; what lies at another host opens apart, for it may be shown. */
export function save(address, name) {
  const link = document.createElement("a");
  link.href = address;
  link.download = name;
  if (link.origin !== location.origin && link.protocol !== "blob:") Object.assign(link, { target: "_blank", rel: "noopener noreferrer" });
  document.body.append(link);
  link.click();
  link.remove();
}

/** An answer as a file: it is fetched with the token, which may stand in no address. */
export async function saveAnswer(path, query, name) {
  const answer = await raw(path, query);
  const address = URL.createObjectURL(await answer.blob());
  save(address, name);
  setTimeout(() => URL.revokeObjectURL(address), 60000);
}

/** A key that makes a call which is repeated count once. */
export const onceKey = () => [...crypto.getRandomValues(new Uint8Array(16))].map((one) => one.toString(16).padStart(2, "0")).join("");
