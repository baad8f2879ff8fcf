/** Schedules: which jobs come by the clock, when the next ones do, and what became of the last. */
import { html } from "./html.mjs";
import { call, get, post } from "./api.mjs";
import { More, Table, onceKey, useEvery, usePages } from "./paged.mjs";
import { Ago, Empty, Fact, Fault, Loading, State, confirm, toast, useLoaded } from "./parts.mjs";
import { go, href } from "./router.mjs";
import { may } from "./session.mjs";
import { Value } from "./value.mjs";
import { moment, number, plural, span } from "./words.mjs";

const PAGE = 100, AGAIN_MS = 15000, NEXT = 10;
const STATES = { active: ["Active", "good"], paused: ["Paused", "late"], ended: ["Ended", "off"] };
const MISSED = { skip: "are left out", last: "the newest still makes its job", all: "the newest still make their jobs" };
const OVERLAP = { allow: "another job is made", skip: "no job is made", cancel_previous: "the job before is cancelled" };

const ScheduleState = ({ one }) => html`<${State} words=${STATES[one.state]?.[0] ?? one.state} tone=${STATES[one.state]?.[1] ?? "off"} />`;
const when = (one) => (one.cron ? html`<code>${one.cron}</code> <span class="quiet">${one.timezone}</span>` : `Every ${span(one.every_s)}`);
/** What kept the newest tick from making a job, if something did. */
const problem = (one) => {
  const last = one.last_run?.at ?? "";
  if (one.last_refused && one.last_refused.at > last) return ["Refused", one.last_refused.message, "bad", one.last_refused.at];
  if (one.last_skipped && one.last_skipped.at > last) return ["Skipped", one.last_skipped.reason === "overlap" ? "the job before had not ended" : "nothing ran at that time", "late", one.last_skipped.at];
  return null;
};

export function Schedules({ tenant }) {
  const list = usePages(async (cursor, signal) => {
    const found = await get("v1/schedules", { limit: PAGE, cursor, tenant }, { signal });
    return [found.schedules, found.cursor];
  }, (one) => one.id, [tenant]);
  const { rows, isRead, error, again } = list;
  useEvery(AGAIN_MS, again); // their state is not in the log, so nothing reports it
  return html`<div class="head"><h1>Schedules</h1><p class="quiet" role="status">${isRead ? `${plural(rows.length, "schedule")}${list.further ? " so far" : ""}` : ""}</p></div>
    ${error && html`<${Fault} error=${error} again=${again} />`}
    ${!isRead ? !error && html`<${Loading} what="Reading the schedules" />` : rows.length ? html`<${Table} label="Schedules" columns=${[["State"], ["Schedule"], ["When", "minor"], ["Next"], ["Last job"], ["Jobs", "num minor"]]}>
      ${rows.map((one) => html`<tr key=${one.id}><td><${ScheduleState} one=${one} /></td><th scope="row"><a class="breaks" href=${href(`schedules/${one.id}`)}>${one.name}</a><div class="under">${one.kind ?? one.workflow ?? ""}</div></th><td class="minor breaks">${when(one)}</td>
        <td>${one.state === "active" ? html`<${Ago} at=${one.next_runs[0]} />` : html`<span class="quiet">–</span>`}</td><td>${problem(one) ? html`<${State} words=${problem(one)[0]} tone=${problem(one)[2]} />` : one.last_run ? html`<a href=${href(`jobs/${one.last_run.job_id}`)}><${Ago} at=${one.last_run.at} /></a>` : html`<span class="quiet">–</span>`}</td><td class="num minor">${number(one.runs)}</td></tr>`)}<//><${More} further=${list.further} />`
    : html`<${Empty} title="There is no schedule"><p>A schedule makes a job at every tick of a clock. Make one with the command line, or with <code>POST /v1/schedules</code>:</p>
      <pre><code>switchyard schedule create nightly --kind simulate --cron '30 2 * * *'</code></pre><//>`}`;
}

/** A time on the clock of a zone, where the browser knows it. */
function zoned(at, zone) {
  try {
    return new Intl.DateTimeFormat("en-GB", { dateStyle: "medium", timeStyle: "short", timeZone: zone }).format(new Date(at));
  } catch {
    return "";
  }
}

export function Schedule({ id, tenant }) {
  const path = `v1/schedules/${encodeURIComponent(id)}`, scope = { query: { tenant } };
  const [found, error, again] = useLoaded(async (signal) => {
    const one = await get(path, { tenant }, { signal });
    return { one, next: one.state === "active" ? (await get(`${path}/next`, { count: NEXT, tenant }, { signal })).next_runs : [] };
  }, [id, tenant]);
  useEvery(AGAIN_MS, again);
  if (!found) {
    if (!error) return html`<h1 class="sr">Schedule ${id}</h1><${Loading} what="Reading the schedule" />`;
    return error.status === 404 ? html`<${Empty} title="There is no such schedule" whole><p>It is not there, or it is another tenant's: <code>${id}</code></p><p><a href=${href("schedules")}>Show all schedules</a></p><//>`
      : html`<h1>Schedule</h1><${Fault} error=${error} again=${again} />`;
  }
  const { one, next } = found;
  const set = async (verb, words) => {
    try {
      await post(`${path}/${verb}`, {}, scope);
      toast(words);
    } catch (fault) {
      toast(fault.message, "bad");
    }
    again();
  };
  const run = () => {
    const key = onceKey();
    confirm({
      title: "Run it now?", action: "Run now", content: html`<p>A job is made beside the ticks, which come as they would have. It counts for you.</p>`,
      act: async () => {
        const job = await post(`${path}/run`, {}, { ...scope, headers: { "Idempotency-Key": key } });
        toast("The job is made.");
        go(`jobs/${job.id}`);
      },
    });
  };
  const pause = () => confirm({
    title: `Pause ${one.name}?`, action: "Pause", content: html`<p>It makes no jobs until somebody resumes it. Ticks that pass meanwhile are not caught up with.</p>`,
    act: async () => {
      await post(`${path}/pause`, {}, scope);
      toast("The schedule is paused.");
      again();
    },
  });
  const remove = () => confirm({
    title: `Delete ${one.name}?`, tone: "bad", action: "Delete", content: html`<p>No job of it comes any more. Those that it has made stay.</p>`,
    act: async () => {
      await call("DELETE", path, scope);
      toast("The schedule is deleted.");
      go("schedules");
    },
  });
  const bad = problem(one);
  return html`<div class="head job-head"><div><p class="crumb"><a href=${href("schedules")}>Schedules</a></p><h1>${one.name}</h1></div>
      ${may("submitter") && html`<div class="row actions"><button type="button" class="primary" onClick=${run}>Run now</button>${one.state === "paused" ? html`<button type="button" onClick=${() => set("resume", "The schedule goes on.")}>Resume</button>` : one.state === "active" && html`<button type="button" onClick=${pause}>Pause</button>`}
        <button type="button" onClick=${remove}>Delete</button></div>`}</div>
    <div class="now-line"><span aria-live="polite"><${ScheduleState} one=${one} /></span><span>${when(one)}</span>${one.state === "active" && next[0] && html`<span>next <${Ago} at=${next[0]} /></span>`}<span>${plural(one.runs, "job")} made</span></div>
    ${error && html`<${Fault} error=${error} again=${again} />`}
    ${bad && html`<div class="fault"><strong>The newest tick made no job: ${bad[0].toLowerCase()}.</strong><span>${bad[1]}</span><span class="quiet">${moment(bad[3])}</span></div>`}
    <section aria-labelledby="next"><h2 id="next">Next ticks</h2>${next.length ? html`<ol class="plain lines">${next.map((at) => html`<li key=${at}><strong>${moment(at)}</strong>${one.cron && html`<span class="quiet">${zoned(at, one.timezone)} in ${one.timezone}</span>`}<span class="quiet"><${Ago} at=${at} /></span></li>`)}</ol>`
      : html`<p class="quiet">${one.state === "paused" ? "None while it is paused." : "None is left."}</p>`}</section>
    <section aria-labelledby="last"><div class="head"><h2 id="last">What it made</h2><a href=${href("jobs", { label: `schedule:${one.id}` })}>All its jobs</a></div><dl class="facts">
      <${Fact} name="Last tick with a job">${one.last_run ? html`<a href=${href(`jobs/${one.last_run.job_id}`)}>${moment(one.last_run.at)}</a>` : "None yet"}<//><${Fact} name="Last by hand">${one.last_by_hand ? html`<a href=${href(`jobs/${one.last_by_hand.job_id}`)}>${moment(one.last_by_hand.at)}</a> <span class="quiet">by ${one.last_by_hand.by}</span>` : "None yet"}<//>
      ${one.last_skipped && html`<${Fact} name="Last skipped">${moment(one.last_skipped.at)}<//>`}${one.last_refused && html`<${Fact} name="Last refused">${moment(one.last_refused.at)} <span class="quiet">${one.last_refused.message}</span><//>`}</dl></section>
    <section aria-labelledby="job"><h2 id="job">The job that it makes</h2><${Value} value=${one.job ?? {}} name="job" /></section>
    <section aria-labelledby="facts"><h2 id="facts">Facts</h2><dl class="facts"><${Fact} name="Made">${moment(one.created_at)} <span class="quiet">by ${one.created_by}</span><//>${one.start_at && html`<${Fact} name="From">${moment(one.start_at)}<//>`}${one.end_at && html`<${Fact} name="Until">${moment(one.end_at)}<//>`}
      <${Fact} name="Ticks that were missed">${MISSED[one.missed] ?? one.missed}<//><${Fact} name="While the job before runs">${OVERLAP[one.overlap] ?? one.overlap}<//><${Fact} name="Tenant">${one.tenant}<//></dl></section>`;
}
