/** What no part of Switchyard could read: where it stands, why, and the message itself. */
import { html, useState } from "./html.mjs";
import { call, get } from "./api.mjs";
import { More, Table, useEvery, usePages } from "./paged.mjs";
import { Ago, Copy, Empty, Fact, Fault, Loading, confirm, toast, useLoaded } from "./parts.mjs";
import { href, replace } from "./router.mjs";
import { may } from "./session.mjs";
import { bytes, cut, number, plural, shortId } from "./words.mjs";

const PAGE = 100, AGAIN_MS = 30000, MOST_CALLS = 20;
const idOf = (one) => `${one.stream}/${one.seq}`;
const pathOf = (one) => `v1/quarantine/${encodeURIComponent(one.stream)}/${one.seq}`;

export function Quarantine({ route, tenant }) {
  const stream = route.query.get("stream") ?? "", shown = route.query.get("message") ?? "";
  const list = usePages(async (cursor, signal) => {
    const rows = []; // a page may be empty though more follow
    let at = cursor;
    for (let calls = 0; calls < MOST_CALLS; calls += 1) {
      const found = await get("v1/quarantine", { limit: PAGE, stream, cursor: at, tenant }, { signal });
      rows.push(...found.quarantine);
      at = found.cursor;
      if (rows.length || !at) break;
    }
    return [rows, at];
  }, idOf, [stream, tenant]);
  const { rows, isRead, error, again } = list;
  useEvery(AGAIN_MS, again);
  const streams = [...new Set([...rows.map((one) => one.stream), ...(stream ? [stream] : [])])].sort();
  const may_act = may("admin");
  const forget = (one) => confirm({
    title: "Forget this message?", action: "Forget it", tone: "bad", content: html`<p>Only the reference goes: the message stays in ${one.stream}, and a reader that meets it again refers to it again.</p>`,
    act: async () => {
      await call("DELETE", pathOf(one));
      toast("It is forgotten.");
      if (shown === idOf(one)) replace({ message: null });
      again();
    },
  });
  const forgetAll = () => confirm({
    title: stream ? `Forget all of ${stream}?` : "Forget all?", action: "Forget all", tone: "bad", content: html`<p>The references go, for all tenants and those that are not shown too. The messages stay where they are.</p>`,
    act: async () => {
      const { forgotten } = await call("DELETE", "v1/quarantine", { query: { stream } });
      toast(`${plural(forgotten, "message")} forgotten.`);
      again();
    },
  });
  return html`<div class="head"><h1>Quarantine</h1><div class="row"><p class="quiet" role="status">${isRead ? `${plural(rows.length, "message")}${list.further ? " so far" : ""}` : ""}</p>${may_act && rows.length > 0 && html`<button type="button" onClick=${forgetAll}>Forget all</button>`}</div></div>
    ${streams.length > 1 || stream ? html`<form class="filters" role="search" onSubmit=${(event) => event.preventDefault()}><label><span>Stream</span><select value=${stream} onChange=${(event) => replace({ stream: event.target.value, message: null })}><option value="">All streams</option>${streams.map((one) => html`<option key=${one}>${one}</option>`)}</select></label></form>` : ""}
    ${error && html`<${Fault} error=${error} again=${again} />`}
    ${shown && may_act && html`<${Message} place=${shown} close=${() => replace({ message: null })} />`}
    ${!isRead ? !error && html`<${Loading} what="Reading what was set aside" />` : rows.length ? html`<${Table} label="Messages that were set aside" columns=${[["Message"], ["Why"], ["Job", "minor"], ["Size", "num minor"], ["Found", "minor"], ...(may_act ? [["Actions", "hidden"]] : [])]}>
      ${rows.map((one) => html`<tr key=${idOf(one)}><th scope="row">${one.stream} <code>${one.seq}</code><div class="under breaks"><code>${cut(one.subject, 200)}</code></div></th><td class="said-cell">${cut(one.reason, 300)}</td>
        <td class="minor">${one.job_id ? html`<a href=${href(`jobs/${one.job_id}`)} title=${one.job_id}>${one.kind || "job"} <code>${shortId(one.job_id)}</code></a>` : html`<span class="quiet">none</span>`}${one.tenant && may_act && html`<div class="under">${one.tenant}</div>`}</td><td class="num minor">${bytes(one.size_bytes)}</td><td class="minor"><${Ago} at=${one.at} /></td>
        ${may_act && html`<td><span class="row tight"><button type="button" class="small" aria-expanded=${shown === idOf(one)} onClick=${() => replace({ message: shown === idOf(one) ? null : idOf(one) })}>${shown === idOf(one) ? "Hide" : "Show"}<span class="sr"> message ${one.seq} of ${one.stream}</span></button>
          <button type="button" class="small" onClick=${() => forget(one)}>Forget<span class="sr"> message ${one.seq} of ${one.stream}</span></button></span></td>`}</tr>`)}<//><${More} further=${list.further} />`
    : html`<${Empty} title="Nothing was set aside"><p>A message that no part of Switchyard can read stops nobody: it is passed over and listed here. There is nothing to do.</p>${stream && html`<p><a href=${href("quarantine")}>Show all streams</a></p>`}<//>`}`;
}

function Message({ place, close }) {
  const [stream, seq] = place.split("/");
  const [isRaw, setRaw] = useState(false);
  const [found, error, again] = useLoaded((signal) => get(pathOf({ stream, seq: encodeURIComponent(seq ?? "") }), {}, { signal }), [place]);
  const message = found?.message;
  return html`<section aria-labelledby="message"><div class="head"><h2 id="message">Message ${seq} of ${stream}</h2><button type="button" class="small" onClick=${close}>Close</button></div>
    ${error ? html`<${Fault} error=${error} again=${error.status === 404 ? null : again} />` : !found ? html`<${Loading} what="Reading the message" />` : html`<p class="bad breaks">${found.reason}</p><dl class="facts"><${Fact} name="Subject"><code>${found.subject}</code><//><${Fact} name="Size">${bytes(found.size_bytes)}<//>
      ${Object.entries(message?.headers ?? {}).slice(0, 50).map(([name, value]) => html`<${Fact} name=${name} key=${name}>${cut(String(value), 500)}<//>`)}</dl>
      ${message && html`<div class="row tight">${message.text !== null && html`<div class="choices" role="group" aria-label="How it is shown"><button type="button" aria-pressed=${!isRaw} onClick=${() => setRaw(false)}>Text</button><button type="button" aria-pressed=${isRaw} onClick=${() => setRaw(true)}>Base64</button></div>`}<${Copy} text=${message.text === null || isRaw ? message.body : message.text} what="the message" /></div>
        <pre tabindex="0" aria-label="Message"><code>${message.text === null || isRaw ? message.body : message.text}</code></pre>${message.truncated && html`<p class="quiet">The first 64 KiB of ${number(message.size_bytes)} bytes.</p>`}`}`}</section>`;
}
