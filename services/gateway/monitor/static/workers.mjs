/** Who does the work: all workers as they are now, and one of them. */
import { html, useMemo, useState } from "./html.mjs";
import { get, post } from "./api.mjs";
import { VirtualList, useRowHeight } from "./list.mjs";
import { useWatched } from "./overview.mjs";
import { Ago, Bar, Empty, Fact, Fault, Loading, State, confirm, toast, useLoaded } from "./parts.mjs";
import { href, replace } from "./router.mjs";
import { may } from "./session.mjs";
import { Value } from "./value.mjs";
import { number, plural, span } from "./words.mjs";

const TONES = { running: ["Ready", "good"], paused: ["Paused", "late"], draining: ["Draining", "late"], unregistered: ["Refused", "bad"] };
const tone = (worker) => (worker.state === "running" && worker.running >= worker.slots ? ["Busy", "running"] : TONES[worker.state] ?? [worker.state, "off"]);

export const WorkerState = ({ worker }) => {
  const [words, colour] = tone(worker);
  return html`<${State} tone=${colour} words=${words} />`;
};

export function Workers({ route, tenant }) {
  const items = useWatched("workers", tenant);
  const q = route.query.get("q") ?? "", state = route.query.get("state") ?? "";
  const rows = useMemo(() => [...(items?.values() ?? [])]
    .filter((one) => (!state || tone(one)[0] === state) && (!q || `${one.id} ${one.host} ${one.kinds.join(" ")}`.toLowerCase().includes(q.toLowerCase())))
    .sort((a, b) => a.id.localeCompare(b.id)), [items, q, state]);
  const all = [...(items?.values() ?? [])];
  const slots = all.reduce((sum, one) => sum + one.slots, 0), running = all.reduce((sum, one) => sum + one.running, 0);
  const height = useRowHeight(92, 45);
  const row = (worker, index) => html`<div class="worker-row item" role="row" key=${worker.id} aria-rowindex=${index + 2} style=${{ height: `${height}px` }}>
    <span role="cell" class="is"><${WorkerState} worker=${worker} /></span>
    <span role="cell" class="what"><a href=${href(`workers/${worker.id}`)} title=${worker.id}><strong>${worker.id}</strong></a> <span class="quiet">${worker.host}${worker.door ? `, over ${worker.door}` : ""}</span></span>
    <span role="cell" class="kinds">${worker.kinds.slice(0, 4).map((kind) => html`<span class="tag" key=${kind}>${kind}</span>`)}${worker.kinds.length > 4 && html`<span class="quiet" title=${worker.kinds.join(", ")}>and ${worker.kinds.length - 4}</span>`}</span>
    <span role="cell" class="slots"><${Bar} value=${worker.slots ? worker.running / worker.slots : 0} label=${`Slots of ${worker.id} that are taken`} /><span class="percent">${worker.running} of ${worker.slots}${worker.lost_slots ? `, ${worker.lost_slots} lost` : ""}</span></span>
    <span role="cell" class="num tally">${number(worker.succeeded)} done${worker.failed + worker.lost ? html`, <span class="bad">${number(worker.failed + worker.lost)} failed</span>` : ""}</span>
    <span role="cell" class="num when"><${Ago} at=${worker.started_at} /></span></div>`;
  return html`<div class="head"><h1>Workers</h1><p class="quiet" role="status">${items ? `${plural(all.length, "worker")}, ${number(running)} of ${plural(slots, "slot")} taken` : ""}</p></div>
    <form class="filters" role="search" onSubmit=${(event) => event.preventDefault()}><label class="grow"><span>Search</span><input type="search" value=${q} placeholder="A name, a host or a kind" onInput=${(event) => replace({ q: event.target.value })} autocomplete="off" spellcheck="false" /></label>
      <label><span>State</span><select value=${state} onChange=${(event) => replace({ state: event.target.value })}><option value="">All states</option>${["Ready", "Busy", "Paused", "Draining", "Refused"].map((one) => html`<option key=${one}>${one}</option>`)}</select></label></form>
    ${!items ? html`<${Loading} what="Reading the workers" />` : rows.length ? html`<${VirtualList} rows=${rows} height=${height} row=${row} label="Workers" head=${html`<div class="row-head worker-row" role="rowgroup"><div role="row" aria-rowindex="1">
      <span role="columnheader">State</span><span role="columnheader">Worker</span><span role="columnheader">Kinds</span><span role="columnheader">Slots</span><span role="columnheader" class="num">Attempts</span><span role="columnheader" class="num">Started</span></div></div>`} />`
    : all.length ? html`<${Empty} title="No worker is like this"><a href="#/workers">Show all workers</a><//>`
    : html`<${Empty} title="No worker runs"><p>Jobs wait until one does. Start one on any machine that reaches the broker:</p><pre><code>switchyard worker --kinds simulate</code></pre><//>`}`;
}

const WISHES = { paused: "Asked to pause", draining: "Asked to drain" };
const DOES = {
  pause: ["Pause", "It takes no new job, and finishes what it runs.", "The worker pauses."],
  resume: ["Resume", "It takes jobs again.", "The worker takes jobs again."],
  drain: ["Drain", "It takes no new job, gives those that run time to end, hands the rest back and ends. Nothing takes that back.", "The worker drains."],
};

export function Worker({ id, tenant }) {
  const items = useWatched("workers", tenant);
  const seen = items?.get(id);
  const [turn, setTurn] = useState(0);
  const [asked] = useLoaded(async (signal) => (await get("v1/controls", {}, { signal })).controls.find((one) => one.what === "worker" && one.name === id)?.state ?? "", [id, seen?.state, turn]);
  const [worker, error, again] = useLoaded((signal) => get(`v1/workers/${encodeURIComponent(id)}`, { tenant }, { signal }), [id, tenant, seen?.running, seen?.state, seen?.revision, turn]);
  if (error && !worker) {
    return error.status === 404 ? html`<${Empty} title="This worker is not there" whole><p>It has ended, or its heartbeat is over: <code>${id}</code></p><a href=${href("workers")}>Show all workers</a><//>` : html`<h1>Worker</h1><${Fault} error=${error} again=${again} />`;
  }
  if (!worker) return html`<h1 class="sr">Worker ${id}</h1><${Loading} what="Reading the worker" />`;
  const now = { ...worker, ...(seen ?? {}) };
  // What somebody wishes of it, until it has heard that: one that asks by REST hears it when it asks next.
  const wish = WISHES[asked] && now.state === "running" ? WISHES[asked] : null;
  const isPaused = now.state === "paused" || asked === "paused";
  const isGone = items && !seen;
  const act = (what) => confirm({
    title: `${DOES[what][0]} ${id}?`, action: DOES[what][0], tone: what === "drain" ? "bad" : undefined, content: html`<p>${DOES[what][1]}</p>`,
    act: async () => {
      await post(`v1/workers/${encodeURIComponent(id)}/${what}`);
      toast(DOES[what][2]);
      setTurn(turn + 1);
    },
  });
  return html`<div class="head job-head"><div><p class="crumb"><a href=${href("workers")}>Workers</a></p><h1>${worker.id}</h1></div>
      ${may("admin") && now.state !== "draining" && asked !== "draining" && !isGone && html`<div class="row actions">${isPaused ? html`<button type="button" class="primary" onClick=${() => act("resume")}>Resume</button>` : html`<button type="button" onClick=${() => act("pause")}>Pause</button>`}
        <button type="button" onClick=${() => act("drain")}>Drain</button></div>`}</div>
    <div class="now-line"><span aria-live="polite">${isGone ? html`<${State} tone="bad" words="Gone" />` : html`<${WorkerState} worker=${now} />`}</span>${wish && !isGone && html`<${State} tone="late" words=${wish} />`}<span>${now.running} of ${plural(now.slots, "slot")} taken</span><span>started <${Ago} at=${worker.started_at} /></span></div>
    <section aria-labelledby="runs"><h2 id="runs">What it runs</h2>${worker.jobs?.length ? html`<ul class="plain lines">${worker.jobs.map((job) => html`<li key=${job.id}><${State} state=${job.state} /><a href=${href(`jobs/${job.id}`)}><strong>${job.kind}</strong> <code>${job.id}</code></a>${job.progress && html`<span class="progress"><${Bar} value=${job.progress.fraction} label=${`Progress of job ${job.id}`} /><span class="percent">${Math.floor(100 * job.progress.fraction)} %</span></span>`}<span class="quiet"><${Ago} at=${job.started_at} /></span></li>`)}</ul>` : html`<p class="quiet">None of your jobs now.</p>`}</section>
    ${worker.connectors?.length > 0 && html`<section aria-labelledby="connectors"><h2 id="connectors">Connectors</h2><div class="scroll" tabindex="0" role="group" aria-label="Connectors"><table class="wide-table"><thead><tr><th scope="col">Name</th><th scope="col">Kind</th><th scope="col">State</th><th scope="col" class="num">Slots</th></tr></thead><tbody>
      ${worker.connectors.map((one) => html`<tr key=${one.id}><th scope="row">${one.id}</th><td>${one.kind}</td><td>${one.down ? html`<${State} tone="bad" words="Down" /> <span class="quiet">${one.down}</span>` : html`<${State} tone="good" words="Up" />`}</td><td class="num">${one.running} of ${one.slots}</td></tr>`)}</tbody></table></div></section>`}
    <section aria-labelledby="has"><h2 id="has">What it has</h2><${Value} value=${worker.capabilities ?? {}} name="capabilities" /></section>
    <section aria-labelledby="about"><h2 id="about">Facts</h2><dl class="facts">${worker.host && html`<${Fact} name="Host">${worker.host}<//>`}${worker.version && html`<${Fact} name="Version">${worker.version}<//>`}<${Fact} name="Kinds">${worker.kinds.join(", ")}<//>
      <${Fact} name="Lease">${span(worker.lease_s)}<//><${Fact} name="Attempts">${number(now.started)} started, ${number(now.succeeded)} succeeded, ${number(now.failed)} failed, ${number(now.lost)} lost<//>
      ${worker.tenants?.length > 0 && html`<${Fact} name="Tenants">${worker.tenants.join(", ")}<//>`}</dl></section>`;
}
