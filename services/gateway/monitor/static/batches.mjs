/** Batches: many jobs from the lines of one file, how far each has come, and what came out. */
import { html, useEffect, useState } from "./html.mjs";
import { call, get, post } from "./api.mjs";
import * as live from "./live.mjs";
import { Figure } from "./overview.mjs";
import { More, Table, save, useEvery, usePages } from "./paged.mjs";
import { Ago, Bar, Copy, Empty, Fact, Fault, Loading, State, confirm, toast, useLoaded } from "./parts.mjs";
import { go, href } from "./router.mjs";
import { may } from "./session.mjs";
import { Value } from "./value.mjs";
import { cut, moment, number, plural, shortId } from "./words.mjs";

const PAGE = 50, FAILURES = 20, REFRESH_MS = 3000, AGAIN_MS = 5000, IDLE_MS = 30000, URL_S = 600;
const STATES = {
  validating: ["Checking the file", "waiting"], in_progress: ["Running", "running"], cancelling: ["Cancelling", "late"],
  finalizing: ["Writing the outputs", "running"], completed: ["Completed", "good"], failed: ["Failed", "bad"],
  cancelled: ["Cancelled", "off"], expired: ["Expired", "off"],
};
const ENDED = new Set(["completed", "failed", "cancelled", "expired"]);

function BatchState({ batch }) {
  const [words, tone] = STATES[batch.state] ?? [batch.state, "off"];
  const isMixed = batch.state === "completed" && batch.lines.failed > 0;
  return html`<${State} tone=${isMixed ? "late" : tone} words=${isMixed ? "Completed with failures" : words} />`;
}

const done = ({ lines }) => lines.succeeded + lines.failed;
const named = (batch) => batch.name || `Batch ${shortId(batch.id)}`;

export function Batches({ tenant }) {
  const list = usePages(async (cursor, signal) => {
    const found = await get("v1/batches", { limit: PAGE, cursor, tenant }, { signal });
    return [found.batches, found.cursor];
  }, (one) => one.id, [tenant]);
  const { rows, isRead, error, again } = list;
  const isMoving = rows.some((one) => !ENDED.has(one.state));
  useEffect(() => live.pulse(REFRESH_MS, tenant, again), [tenant]);
  useEvery(isMoving ? AGAIN_MS : IDLE_MS, again);
  return html`<div class="head"><h1>Batches</h1><p class="quiet" role="status">${isRead ? `${plural(rows.length, "batch", "batches")}${list.further ? " so far" : ""}` : ""}</p></div>
    ${error && html`<${Fault} error=${error} again=${again} />`}
    ${!isRead ? !error && html`<${Loading} what="Reading the batches" />` : rows.length ? html`<${Table} label="Batches" columns=${[["State"], ["Batch"], ["Lines that ended"], ["Made", "minor"], ["Ended", "minor"]]}>
      ${rows.map((one) => html`<tr key=${one.id}><td><${BatchState} batch=${one} /></td><th scope="row"><a class="breaks" href=${href(`batches/${one.id}`)} title=${one.id}>${named(one)}</a><div class="under breaks">${one.job.kind ?? ""} ${one.created_by}</div></th>
        <td><span class="slots"><${Bar} value=${one.lines.total ? done(one) / one.lines.total : 0} label=${`Lines of ${named(one)} that ended`} tone=${one.lines.failed ? "late" : "running"} /><span class="percent">${one.lines.total ? `${number(done(one))} of ${number(one.lines.total)}` : "–"}${one.lines.failed > 0 && html`, <span class="bad">${number(one.lines.failed)} failed</span>`}</span></span></td><td class="minor"><${Ago} at=${one.created_at} /></td><td class="minor"><${Ago} at=${one.ended_at} /></td></tr>`)}<//><${More} further=${list.further} />`
    : html`<${Empty} title="There is no batch"><p>A batch makes a job of each line of a file. Make one with the command line, or with <code>POST /v1/batches</code>:</p>
      <pre><code>switchyard batches submit in.jsonl --kind convert</code></pre><//>`}`;
}

export function Batch({ id, tenant }) {
  const [batch, error, again] = useLoaded((signal) => get(`v1/batches/${encodeURIComponent(id)}`, { tenant }, { signal }), [id, tenant]);
  const isMoving = Boolean(batch) && !ENDED.has(batch.state);
  useEffect(() => (isMoving ? live.pulse(REFRESH_MS, tenant, again) : undefined), [id, tenant, isMoving]);
  useEvery(isMoving ? AGAIN_MS : null, again);
  if (!batch) {
    if (!error) return html`<h1 class="sr">Batch ${id}</h1><${Loading} what="Reading the batch" />`;
    return error.status === 404 ? html`<${Empty} title="There is no such batch" whole><p>It is not there, another tenant's, or its time is over: <code>${id}</code></p><p><a href=${href("batches")}>Show all batches</a></p><//>`
      : html`<h1>Batch</h1><${Fault} error=${error} again=${again} />`;
  }
  const { lines } = batch, jobs = (query) => href("jobs", { label: `batch:${batch.id}`, ...query });
  const share = (count) => ({ width: `${(100 * count) / Math.max(1, lines.total)}%` });
  const isStuck = batch.state === "in_progress" && !lines.jobs.running;
  return html`<${Header} batch=${batch} tenant=${tenant} again=${again} />
    <div class="now-line"><span aria-live="polite"><${BatchState} batch=${batch} /></span>${lines.total > 0 && html`<span>${number(done(batch))} of ${plural(lines.total, "line")} ended</span>`}<span>made <${Ago} at=${batch.created_at} /></span>
      ${batch.ended_at ? html`<span>ended <${Ago} at=${batch.ended_at} /></span>` : html`<span>must end <${Ago} at=${batch.deadline_at} /></span>`}</div>
    ${error && html`<${Fault} error=${error} again=${again} />`}
    ${batch.faults.length > 0 && html`<div class="fault" role="alert"><strong>The file makes no batch.</strong><ul class="plain">${batch.faults.slice(0, 100).map((one) => html`<li key=${`${one.line} ${one.code}`}>${one.line ? `Line ${number(one.line)}: ` : ""}${one.message} <code>${one.code}</code></li>`)}</ul></div>`}
    ${isStuck && html`<${Why} batch=${batch} tenant=${tenant} />`}
    ${lines.total > 0 && html`<section aria-labelledby="progress"><h2 id="progress">Lines</h2>
      <div class="stack" role="img" aria-label=${`${number(lines.succeeded)} succeeded, ${number(lines.failed)} failed, ${number(lines.open)} under way, ${number(lines.waiting)} not submitted yet`}>
        <span data-tone="good" style=${share(lines.succeeded)}></span><span data-tone="bad" style=${share(lines.failed)}></span><span data-tone="running" style=${share(lines.open)}></span></div>
      <dl class="figures"><${Figure} name="Succeeded" value=${number(lines.succeeded)} to=${jobs({ state: "succeeded" })} /><${Figure} name="Failed" value=${number(lines.failed)} note=${lines.refused ? `${number(lines.refused)} made no job` : ""} tone=${lines.failed ? "bad" : undefined} to=${jobs({ state: "dead" })} />
        <${Figure} name="Under way" value=${number(lines.open)} note=${lines.jobs.running ? `${number(lines.jobs.running)} running` : ""} to=${jobs({})} /><${Figure} name="Not submitted yet" value=${number(lines.waiting)} note=${lines.waiting ? `at most ${number(batch.window)} at once` : ""} /></dl></section>`}
    ${lines.failed > 0 && html`<${Failures} batch=${batch} tenant=${tenant} all=${jobs({ state: "dead" })} />`}
    <section aria-labelledby="facts"><h2 id="facts">Facts</h2><dl class="facts">
      <${Fact} name="Made">${moment(batch.created_at)} <span class="quiet">by ${batch.created_by}</span><//>${batch.started_at && html`<${Fact} name="Started">${moment(batch.started_at)}<//>`}
      ${batch.ended_at && html`<${Fact} name="Ended">${moment(batch.ended_at)}<//>`}<${Fact} name="Must end by">${moment(batch.deadline_at)}<//><${Fact} name="Jobs at once">${number(batch.window)}<//>
      <${Fact} name="Input file"><code>${batch.input}</code><//>${batch.key && html`<${Fact} name="API key"><code>${batch.key}</code><//>`}<${Fact} name="Tenant">${batch.tenant}<//></dl></section>
    ${Object.keys(batch.job ?? {}).length > 0 && html`<section aria-labelledby="shared"><h2 id="shared">What all lines share</h2><${Value} value=${batch.job} name="shared fields" /></section>`}`;
}

function Header({ batch, tenant, again }) {
  const [isBusy, setBusy] = useState(false);
  const scope = { query: { tenant } };
  const cancel = () => confirm({
    title: "Cancel this batch?", tone: "bad", action: "Cancel batch",
    content: html`<p>No more of its lines are submitted. Jobs that wait end at once, jobs that run are asked to stop. The outputs are written with what there is.</p>`,
    act: async () => {
      await post(`v1/batches/${batch.id}/cancel`, {}, scope);
      toast("The batch is being cancelled.");
      again();
    },
  });
  const forget = () => confirm({
    title: "Forget this batch?", tone: "bad", action: "Forget it",
    content: html`<p>The batch and its outputs are deleted. Its jobs and its input stay.</p>`,
    act: async () => {
      await call("DELETE", `v1/batches/${batch.id}`, scope);
      toast("The batch is forgotten.");
      go("batches");
    },
  });
  const download = async (which) => {
    setBusy(true);
    try { // a large output must not pass through the page: it has an address of its own
      const found = await post(`v1/files/${batch[which]}/url`, { expires_s: URL_S }, scope);
      save(found.url, `batch-${batch.id}.${which}.jsonl`);
    } catch (problem) {
      toast(problem.message, "bad");
    }
    setBusy(false);
  };
  const button = (which, isFirst) => batch[which] && html`<button type="button" class=${isFirst ? "primary" : ""} disabled=${isBusy} onClick=${() => download(which)}>Download ${which}</button>`;
  const hasEnded = ENDED.has(batch.state);
  return html`<div class="head job-head"><div><p class="crumb"><a href=${href("batches")}>Batches</a></p><h1>${named(batch)}</h1><p class="row tight id"><code>${batch.id}</code><${Copy} text=${batch.id} what="the id" /></p></div>
    <div class="row actions">${button("results", true)}${button("errors", !batch.results)}
      ${may("submitter") && !hasEnded && batch.state !== "cancelling" && html`<button type="button" class="primary" data-tone="bad" onClick=${cancel}>Cancel batch</button>`}
      ${may("submitter") && hasEnded && html`<button type="button" onClick=${forget}>Forget</button>`}</div></div>`;
}

function Why({ batch, tenant }) {
  const [found] = useLoaded((signal) => get(`v1/batches/${batch.id}/explain`, { tenant }, { signal }), [batch.id, tenant, batch.lines.open, batch.waits_for]);
  const summary = found?.explained?.summary;
  if (!batch.waits_for && !summary) return null;
  return html`<section class="why" aria-labelledby="why"><h2 id="why">Why it waits</h2>${batch.waits_for && html`<p>${batch.waits_for}</p>`}
    ${summary && html`<p>${summary} ${found.job && html`<a href=${href(`jobs/${found.job}`)}>The job that waits</a>`}</p>`}</section>`;
}

function Failures({ batch, tenant, all }) {
  const [found, error, again] = useLoaded((signal) => get("v1/jobs", { label: `batch:${batch.id}`, state: ["dead", "cancelled", "expired"], limit: FAILURES, tenant }, { signal }), [batch.id, tenant, batch.lines.failed]);
  const made = batch.lines.failed - batch.lines.refused;
  return html`<section aria-labelledby="failures"><div class="head"><h2 id="failures">Failures</h2>${made > FAILURES && html`<a href=${all}>All that failed</a>`}</div>
    ${batch.lines.refused > 0 && html`<p>${plural(batch.lines.refused, "line")} made no job. ${batch.errors ? "Why stands in the errors, for each line." : "Why will stand in the errors, once the batch has ended."}</p>`}
    ${error ? html`<${Fault} error=${error} again=${again} />` : !found ? html`<${Loading} what="Reading the failures" />` : found.jobs.length > 0 && html`<${Table} label="Failures" columns=${[["Line"], ["State", "minor"], ["Job"], ["Error"]]}>${found.jobs.map((job) => html`<tr key=${job.id}>
      <td>${job.labels?.batch_line ?? "–"}</td><td class="minor"><${State} state=${job.state} /></td><th scope="row"><a href=${href(`jobs/${job.id}`)} title=${job.id}>${job.kind} <code>${shortId(job.id)}</code></a></th><td class="said-cell"><strong>${job.error?.code}</strong> <span class="quiet">${cut(job.error?.message, 300)}</span></td></tr>`)}<//>`}</section>`;
}
