/** What a job has printed, as it comes. */
import { html, useEffect, useLayoutEffect, useRef, useState } from "./html.mjs";
import { stream } from "./api.mjs";
import { ENDED, clockTime, number } from "./words.mjs";

const TAIL = 500, MOST = 3000, AGAIN_MS = 2000, MOST_AGAIN_MS = 30000, DRAW_MS = 100;

export function Log({ job, scope }) {
  const [lines, setLines] = useState([]);
  const [left, setLeft] = useState(0);
  const [status, setStatus] = useState("reading");
  const [isFollowed, follow] = useState(true);
  const box = useRef(null);
  useEffect(() => {
    const stop = new AbortController();
    let last = null, tries = 0, timer = null, drawer = null, buffer = [], is_over = false;
    const draw = () => {
      drawer = null;
      const some = buffer;
      buffer = [];
      setLines((old) => {
        const all = [...old, ...some];
        if (all.length > MOST) setLeft((count) => count + all.length - MOST);
        return all.slice(-MOST);
      });
    };
    const read = async () => {
      try {
        await stream(`v1/jobs/${job.id}/logs`, { follow: "true", tenant: scope, ...(last ? { after: last } : { tail: TAIL }) }, {
          signal: stop.signal,
          each: (event, data, id) => {
            tries = 0;
            if (id) last = id;
            if (event === "log") {
              buffer.push(data);
              drawer ??= setTimeout(draw, DRAW_MS);
              setStatus("follows");
            } else if (event === "ended") is_over = true;
          },
        });
      } catch (problem) {
        if (stop.signal.aborted) return;
        if (problem.status && problem.status < 500 && problem.status !== 429) return setStatus(problem.message);
      }
      if (stop.signal.aborted) return undefined;
      if (is_over) return setStatus("ended");
      setStatus("reconnecting");
      tries += 1;
      timer = setTimeout(read, Math.min(MOST_AGAIN_MS, AGAIN_MS * tries));
      return undefined;
    };
    setLines([]);
    setLeft(0);
    setStatus("reading");
    read();
    return () => {
      stop.abort();
      clearTimeout(timer);
      clearTimeout(drawer);
    };
  }, [job.id, scope]);
  useLayoutEffect(() => {
    if (isFollowed && box.current) box.current.scrollTop = box.current.scrollHeight;
  }, [lines, isFollowed]);
  const scrolled = () => {
    const { scrollTop, scrollHeight, clientHeight } = box.current;
    follow(scrollHeight - scrollTop - clientHeight < 24);
  };
  const words = { reading: "", follows: ENDED.has(job.state) ? "" : "Following", reconnecting: "Reconnecting", ended: "Complete" }[status] ?? status;
  return html`<section aria-labelledby="log"><div class="head"><h2 id="log">Log</h2><span class="row tight"><span class="quiet" role="status">${words}</span>
      ${lines.length > 0 && !isFollowed && html`<button type="button" class="small" onClick=${() => follow(true)}>Follow</button>`}</span></div>
    ${left > 0 && html`<p class="quiet">${number(left)} lines before these. <code>switchyard logs ${job.id}</code> prints all of them.</p>`}
    ${lines.length ? html`<div class="log" ref=${box} onScroll=${scrolled} tabindex="0" role="group" aria-label="Log lines">${lines.map((line) => html`<div class="line" key=${line.cursor ?? `${line.at}${line.line}`}><time datetime=${line.at}>${clockTime(line.at)}</time><span>${line.line}</span></div>`)}</div>`
    : html`<p class="quiet">${ENDED.has(job.state) ? "It has printed nothing that is kept." : "It has printed nothing yet. Lines appear here as they come."}</p>`}</section>`;
}
