/** How it goes: what waits, runs and fails, and how long jobs take, over time. */
import { html, useEffect, useMemo, useState } from "./html.mjs";
import { get } from "./api.mjs";
import { Chart, spans } from "./charts.mjs";
import * as live from "./live.mjs";
import { Empty, Fault, Loading, State, useLoaded } from "./parts.mjs";
import { href, replace } from "./router.mjs";
import { may } from "./session.mjs";
import { number, plural, span } from "./words.mjs";

const RANGES = { "1h": [3600, "1 hour"], "6h": [21600, "6 hours"], "24h": [86400, "24 hours"], "7d": [604800, "7 days"], "30d": [2592000, "30 days"] };
const MOST_LANES = 8;

export function useWatched(what, tenant) {
  const [items, set] = useState(null);
  useEffect(() => live.watch(what, tenant ? { tenant } : {}, set), [what, tenant]);
  return items;
}

/** What all lanes of a kind and its priorities hold together. */
export function byLane(queues) {
  const lanes = new Map();
  for (const one of queues.values()) {
    const lane = lanes.get(one.lane) ?? { ...one, id: one.lane, priorities: [], waiting: 0, running: 0, scheduled: 0, blocked: 0, retrying: 0, review: 0, cancelling: 0, oldest_waiting_at: null };
    for (const name of ["waiting", "running", "scheduled", "blocked", "retrying", "review", "cancelling"]) lane[name] += one[name];
    if (one.oldest_waiting_at && (!lane.oldest_waiting_at || one.oldest_waiting_at < lane.oldest_waiting_at)) lane.oldest_waiting_at = one.oldest_waiting_at;
    lane.priorities.push(one);
    lanes.set(one.lane, lane);
  }
  return [...lanes.values()].sort((a, b) => b.waiting - a.waiting || b.running - a.running || a.lane.localeCompare(b.lane));
}

export const Figure = ({ name, value, note, to, tone }) => html`<div class="figure" data-tone=${tone}><dt>${name}</dt>
  <dd>${to ? html`<a href=${to}>${value}</a>` : value}${note && html`<small>${note}</small>`}</dd></div>`;

function Health() {
  const [found] = useLoaded(async (signal) => {
    const answer = await fetch(new URL("readyz", document.baseURI), { signal, credentials: "omit", cache: "no-store" });
    return answer.json();
  }, []);
  if (!found || found.ready) return null;
  const bad = Object.entries(found.checks).filter(([, check]) => !check.ok);
  return html`<div class="fault" role="alert"><strong>The gateway is not ready.</strong>
    ${bad.map(([name, check]) => html`<span>${name.replaceAll("_", " ")}: ${check.error || [check.missing].flat().filter(Boolean).join(", ") || "does not move"}</span>`)}</div>`;
}

export function Overview({ route, tenant }) {
  const range = RANGES[route.query.get("range")] ? route.query.get("range") : "1h";
  const kind = route.query.get("kind") ?? "";
  const [beat, setBeat] = useState(0);
  useEffect(() => live.pulse(RANGES[range][0] > 21600 ? 30000 : 3000, tenant, () => setBeat((old) => old + 1)), [tenant, range]);
  useEffect(() => { // time goes on without jobs, too
    const tick = setInterval(() => document.hidden || setBeat((old) => old + 1), 60000);
    return () => clearInterval(tick);
  }, []);
  const [series, error, again] = useLoaded((signal) => get("v1/series", {
    tenant, kind, since: new Date(Date.now() - RANGES[range][0] * 1000).toISOString(),
  }, { signal }), [tenant, kind, range, beat]);
  const queues = useWatched("queues", tenant);
  const lanes = useMemo(() => (queues ? byLane(queues) : null), [queues]);
  const kinds = useMemo(() => [...new Set([...(lanes ?? []).map((lane) => lane.kind), ...(kind ? [kind] : [])])].sort(), [lanes, kind]);
  const charts = useMemo(() => series && drawn(series), [series]);
  const sum = (name) => (lanes ?? []).reduce((all, lane) => all + lane[name], 0);
  const total = series?.total;
  const ended = total ? total.succeeded + total.dead : 0;
  const jobs = (query) => (may("viewer") ? href("jobs", query) : undefined);
  return html`<div class="head"><h1>Overview</h1><div class="row">
      <label class="pick"><span>Kind</span><select value=${kind} onChange=${(event) => replace({ kind: event.target.value })}>
        <option value="">All</option>${kinds.map((one) => html`<option key=${one} value=${one}>${one}</option>`)}</select></label>
      <div class="choices" role="group" aria-label="Time">${Object.entries(RANGES).map(([name, [, words]]) => html`<button type="button"
        aria-pressed=${name === range} aria-label=${`Last ${words}`} onClick=${() => replace({ range: name })}>${name}</button>`)}</div></div></div>
    <${Health} />
    ${error && html`<${Fault} error=${error} again=${again} />`}
    <dl class="figures">
      <${Figure} name="Waiting" value=${lanes ? number(sum("waiting")) : "–"} note=${lanes && sum("retrying") + sum("scheduled") + sum("blocked") ? `${number(sum("retrying") + sum("scheduled") + sum("blocked"))} later` : "now"} to=${jobs({ state: "queued" })} />
      <${Figure} name="Running" value=${lanes ? number(sum("running") + sum("cancelling")) : "–"} note="now" to=${jobs({ state: "active" })} />
      <${Figure} name="Succeeded" value=${total ? number(total.succeeded) : "–"} note=${`last ${RANGES[range][1]}`} to=${jobs({ state: "succeeded" })} />
      <${Figure} name="Failed" value=${total ? number(total.dead) : "–"} note=${ended ? `${((100 * total.dead) / ended).toFixed(1)} % of what ended` : `last ${RANGES[range][1]}`} tone=${total?.dead ? "bad" : undefined} to=${may("viewer") ? href("dead-letters") : undefined} />
      <${Figure} name="Wait, p95" value=${total ? span(total.wait_s.p95) : "–"} note=${total?.wait_s.p50 != null ? `half within ${span(total.wait_s.p50)}` : "none started"} />
      <${Figure} name="Run, p95" value=${total ? span(total.run_s.p95) : "–"} note=${total?.run_s.p50 != null ? `half within ${span(total.run_s.p50)}` : "none ended"} />
    </dl>
    ${charts ? html`<div class="charts"><${Chart} title=${`Jobs per ${stepWords(series.step_s)}`} times=${charts.times} lines=${charts.flow} shown=${number} note="No job came or ended in this time" />
      <${Chart} title="Wait until the start" times=${charts.times} lines=${charts.wait} shown=${spans} note="No job started in this time" />
      <${Chart} title="Run until the end" times=${charts.times} lines=${charts.run} shown=${spans} note="No job ended in this time" /></div>`
    : !error && html`<${Loading} what="Reading what happened" />`}
    <section aria-labelledby="lanes"><div class="head"><h2 id="lanes">Lanes</h2>${lanes?.length > MOST_LANES && html`<a href=${href("lanes")}>All ${lanes.length} lanes</a>`}</div>
      ${!lanes ? html`<${Loading} what="Reading the lanes" />` : lanes.length ? html`<${LaneBars} lanes=${lanes.slice(0, MOST_LANES)} />`
      : html`<${Empty} title="Nothing waits and nothing runs">A job that is submitted appears here at once. Try one:
        <pre><code>switchyard submit simulate '{"duration_s": 5}'</code></pre><//>`}</section>`;
}

function LaneBars({ lanes }) {
  const most = Math.max(1, ...lanes.map((lane) => lane.waiting + lane.running));
  return html`<div class="scroll" tabindex="0" role="group" aria-label="Lanes"><table class="wide-table lanes"><thead><tr><th scope="col">Kind</th><th scope="col" class="needs">Needs</th><th scope="col" class="num">Waiting</th><th scope="col" class="num">Running</th>
    <th scope="col" class="bars"><span class="sr">Share</span></th><th scope="col">Workers that fit</th></tr></thead><tbody>${lanes.map((lane) => html`<tr key=${lane.lane}>
    <th scope="row"><a href=${may("viewer") ? href("jobs", { kind: lane.kind, state: "queued" }) : href("lanes")}>${lane.kind}</a></th>
    <td class="needs">${needs(lane)}</td><td class="num">${number(lane.waiting)}</td><td class="num">${number(lane.running)}</td>
    <td class="bars" aria-hidden="true"><span class="share" style=${{ width: `${(100 * lane.running) / most}%` }} data-tone="running"></span><span class="share" style=${{ width: `${(100 * lane.waiting) / most}%` }} data-tone="waiting"></span></td>
    <td>${fits(lane)}</td></tr>`)}</tbody></table></div>`;
}

export const needs = (lane) => {
  const text = Object.keys(lane.requires ?? {}).length ? JSON.stringify(lane.requires) : "";
  return text ? html`<code title=${text}>${text.length > 60 ? `${text.slice(0, 60)}…` : text}</code>` : html`<span class="quiet">anything</span>`;
};

export function fits(lane) {
  if (!lane.fitting_workers) return html`<${State} tone=${lane.waiting ? "bad" : "off"} words="No worker fits" />`;
  return html`${plural(lane.fitting_workers, "worker")}, ${number(lane.free_slots)} of ${plural(lane.fitting_slots, "slot")} free`;
}

const stepWords = (step_s) => ({ 60: "minute", 3600: "hour", 86400: "day" })[step_s] ?? span(step_s);

function drawn({ points }) {
  const times = points.map((one) => Date.parse(one.at) / 1000);
  const of = (read) => points.map(read);
  return {
    times,
    flow: [
      { name: "Submitted", colour: "waiting", values: of((one) => one.submitted), dash: [4, 3] },
      { name: "Succeeded", colour: "good", values: of((one) => one.succeeded), fill: true },
      { name: "Failed", colour: "bad", values: of((one) => one.dead), fill: true },
    ],
    wait: [
      { name: "p50", colour: "running", values: of((one) => one.wait_s.p50), fill: true },
      { name: "p95", colour: "late", values: of((one) => one.wait_s.p95) },
    ],
    run: [
      { name: "p50", colour: "running", values: of((one) => one.run_s.p50), fill: true },
      { name: "p95", colour: "late", values: of((one) => one.run_s.p95) },
    ],
  };
}
