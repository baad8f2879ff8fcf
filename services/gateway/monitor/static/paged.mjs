/** Lists that come in pages, the tables that they are shown in, and what is read again now and then. */
import { html, useEffect, useRef, useState } from "./html.mjs";
import { raw } from "./api.mjs";
import { toast } from "./parts.mjs";

/** A list: `load(cursor, signal)` gives `[rows, cursor]`, `idOf` what is the same row. Only the first page is read again. */
export function usePages(load, idOf, on) {
  const [found, set] = useState({ first: null, more: [], cursor: null, error: null });
  const [turn, setTurn] = useState(0);
  const place = JSON.stringify(on);
  const here = useRef(place);
  useEffect(() => {
    const stop = new AbortController();
    const isOther = here.current !== place;
    here.current = place;
    if (isOther) set({ first: null, more: [], cursor: null, error: null });
    load(undefined, stop.signal).then(
      (first) => !stop.signal.aborted && set((old) => ({ ...old, first, error: null })),
      (error) => !stop.signal.aborted && set((old) => ({ ...old, error })),
    );
    return () => stop.abort();
  }, [place, turn]);
  const first = found.first?.[0] ?? [];
  const known = new Set(first.map(idOf));
  const next = found.more.length ? found.cursor : found.first?.[1];
  const further = async () => {
    try {
      const [rows, cursor] = await load(next);
      if (here.current === place) set((old) => ({ ...old, more: [...old.more, ...rows], cursor }));
    } catch (problem) {
      toast(problem.message, "bad");
    }
  };
  return {
    rows: [...first, ...found.more.filter((row) => !known.has(idOf(row)))], isRead: found.first !== null, error: found.error,
    again: () => setTurn((old) => old + 1), further: next ? further : null,
  };
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
