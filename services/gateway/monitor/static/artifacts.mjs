/** The files that a job has left, with pictures of those that are some. */
import { html, useEffect, useState } from "./html.mjs";
import { get, post, raw } from "./api.mjs";
import { Markdown } from "./markdown.mjs";
import { Fault, Loading, toast, useLoaded } from "./parts.mjs";
import { bytes, plural } from "./words.mjs";

const PAGE = 50, MOST_SHOWN_BYTES = 20 * 1024 * 1024, MOST_TEXT_BYTES = 1024 * 1024;
const PICTURES = new Set(["image/png", "image/jpeg", "image/webp", "image/gif", "image/avif", "image/svg+xml"]);
const TEXTS = new Set(["text/markdown", "text/plain", "application/json", "text/csv"]);

/** An address of a file without the token, which opens that file alone. */
const signed = (file, scope) => post(`v1/files/${file}/url`, { expires_s: 600 }, { query: { tenant: scope } });

async function open(file, scope) {
  const tab = window.open("about:blank", "_blank"); // now, for a browser opens none later
  if (tab) tab.opener = null;
  try {
    const found = await signed(file, scope);
    if (tab) tab.location.replace(found.url);
    else toast("The browser did not let this page open a tab.", "bad");
  } catch (problem) {
    tab?.close();
    toast(problem.message, "bad");
  }
}

export function Artifacts({ job, scope }) {
  const [found, error, again] = useLoaded((signal) => get(`v1/jobs/${job.id}/artifacts`, { limit: PAGE, tenant: scope }, { signal }), [job.id, job.seq]);
  return html`<section aria-labelledby="artifacts"><div class="head"><h2 id="artifacts">Files</h2>${found && html`<span class="quiet">${plural(found.total, "file")}, ${bytes(found.size_bytes)}</span>`}</div>
    ${error ? html`<${Fault} error=${error} again=${again} />` : !found ? html`<${Loading} what="Reading the files" />`
    : html`<ul class="files">${found.artifacts.map((one) => html`<${File} key=${one.file ?? one.name} one=${one} scope=${scope} />`)}</ul>
      ${found.total > found.artifacts.length && html`<p class="quiet">The first ${found.artifacts.length} of ${found.total}. <code>switchyard artifacts ${job.id}</code> lists all of them.</p>`}`}</section>`;
}

function File({ one, scope }) {
  const isPicture = PICTURES.has(one.type) && one.size_bytes <= MOST_SHOWN_BYTES && one.url;
  const isText = TEXTS.has(one.type) && one.size_bytes <= MOST_TEXT_BYTES && one.url;
  const [isOpen, setOpen] = useState(false);
  return html`<li class="file">${isPicture && html`<${Picture} one=${one} scope=${scope} />`}
    <div class="about"><strong class="file-name">${one.name}</strong><span class="quiet">${one.type}, ${bytes(one.size_bytes)}${one.width ? `, ${one.width} × ${one.height}` : ""}</span></div>
    <div class="row tight">${one.url ? html`${isText && html`<button type="button" class="small" aria-expanded=${isOpen} onClick=${() => setOpen(!isOpen)}>${isOpen ? "Hide" : "Show"}<span class="sr"> ${one.name}</span></button>`}
      <button type="button" class="small" onClick=${() => open(one.file, scope)}>Open<span class="sr"> ${one.name} in a new tab</span></button>` : html`<span class="quiet">It was removed, or its time is over.</span>`}</div>
    ${isOpen && html`<${Text} one=${one} scope=${scope} />`}</li>`;
}

function Picture({ one, scope }) {
  const [source, setSource] = useState("");
  const [isBroken, setBroken] = useState(false);
  useEffect(() => {
    const stop = new AbortController();
    let mine = "";
    const load = async () => {
      const found = await signed(one.file, scope);
      if (new URL(found.url, document.baseURI).origin === location.origin) return setSource(found.url);
      const answer = await raw(`v1/files/${one.file}`, { tenant: scope }, { signal: stop.signal }); // its bytes lie elsewhere
      mine = URL.createObjectURL(await answer.blob());
      return stop.signal.aborted ? URL.revokeObjectURL(mine) : setSource(mine);
    };
    load().catch(() => setBroken(true));
    return () => {
      stop.abort();
      if (mine) URL.revokeObjectURL(mine);
    };
  }, [one.file]);
  return html`<div class="picture">${isBroken ? html`<span class="quiet">This picture cannot be shown.</span>`
    : source ? html`<img src=${source} alt=${one.name} loading="lazy" onError=${() => setBroken(true)} />` : html`<span class="quiet">Reading …</span>`}</div>`;
}

function Text({ one, scope }) {
  const [text, error] = useLoaded(async (signal) => (await raw(`v1/files/${one.file}`, { tenant: scope }, { signal })).text(), [one.file]);
  if (error) return html`<${Fault} error=${error} />`;
  if (text === undefined) return html`<${Loading} />`;
  return one.type === "text/markdown" ? html`<${Markdown} text=${text} />` : html`<pre tabindex="0" aria-label=${one.name}>${text}</pre>`;
}

