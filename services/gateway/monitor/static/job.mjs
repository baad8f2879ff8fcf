/** One job: where it stands, what happened, what it printed and left, and what can be done. */
import { html, useEffect, useMemo, useRef, useState } from "./html.mjs";
import { get } from "./api.mjs";
import { Again, cancel, commands, redrive, review_note } from "./job_actions.mjs";
import { Artifacts } from "./artifacts.mjs";
import * as live from "./live.mjs";
import { Log } from "./log.mjs";
import { Ago, Bar, Copy, Empty, Fact, Fault, Loading, State, useLoaded, useNow } from "./parts.mjs";
import { href } from "./router.mjs";
import { may } from "./session.mjs";
import { Timeline } from "./timeline.mjs";
import { Value } from "./value.mjs";
import { ACTIVE, ENDED, EVENTS, WAITS, clockTime, moment, number, secondsBetween, span } from "./words.mjs";

const EVENTS_PAGE = 500, MOST_EVENTS = 5000, SETTLE_MS = 120, RETRY_MS = 2000;

export function Job({ id, tenant }) {
  const scope = tenant === "*" ? undefined : tenant;
  const [job, setJob] = useState(null);
  const [events, setEvents] = useState([]);
  const [left, setLeft] = useState(0);
  const [error, setError] = useState(null);
  const [preview, setPreview] = useState(null);
  const [turn, setTurn] = useState(0);
  const known = useRef(0);

  useEffect(() => {
    const stop = new AbortController();
    let leaveLive = null, due = null, over = false;
    known.current = 0;
    const readJob = async () => {
      const found = await get(`v1/jobs/${id}`, { tenant: scope }, { signal: stop.signal });
      setJob((old) => (old && old.seq > found.seq ? old : found));
      return found;
    };
    const add = (more) => {
      const news = more.filter((event) => event.seq > known.current);
      if (!news.length) return;
      known.current = news.at(-1).seq;
      setEvents((old) => {
        const all = [...old, ...news];
        if (all.length > MOST_EVENTS) setLeft((count) => count + all.length - MOST_EVENTS);
        return all.slice(-MOST_EVENTS);
      });
    };
    const readEvents = async () => {
      for (let after = known.current; after !== null && !over;) {
        const found = await get(`v1/jobs/${id}/events`, { after, limit: EVENTS_PAGE, tenant: scope }, { signal: stop.signal });
        add(found.events);
        after = found.after;
      }
    };
    const again = (pause = SETTLE_MS) => { // what came together is read together
      clearTimeout(due);
      due = setTimeout(() => readJob().catch((problem) => {
        // Nothing else may happen to the job, so it is read until it has been.
        if (!over && (!problem.status || problem.status === 429 || problem.status >= 500)) again(RETRY_MS);
      }), pause);
    };
    const begin = async () => {
      try {
        const found = await readJob();
        await readEvents();
        if (over) return;
        if (known.current > found.seq) again(); // it has changed between the two, and no event will say so
        leaveLive = live.subscribe({ jobs: [found.id], previews: true }, {
          seq: known.current || found.seq,
          event: (event) => {
            add([event]);
            again();
          },
          progress: (_, progress) => setJob((old) => (old && old.state === "running" ? { ...old, progress } : old)),
          resync: () => {
            again();
            readEvents().catch(() => {});
          },
          preview: (_, image) => setPreview((old) => {
            if (old) URL.revokeObjectURL(old);
            return URL.createObjectURL(image);
          }),
        });
      } catch (problem) {
        if (!over) setError(problem);
      }
    };
    setError(null);
    begin();
    return () => {
      over = true;
      stop.abort();
      clearTimeout(due);
      leaveLive?.();
      setPreview((old) => {
        if (old) URL.revokeObjectURL(old);
        return null;
      });
    };
  }, [id, scope, turn]);

  if (error) {
    return error.status === 404 ? html`<${Empty} title="There is no such job" whole><p>It is not there, or it is another tenant's. Its id is <code>${id}</code>.</p><p><a href=${href("jobs")}>Show all jobs</a></p><//>`
      : html`<h1>Job</h1><${Fault} error=${error} again=${() => setTurn(turn + 1)} />`;
  }
  if (!job) return html`<h1 class="sr">Job ${id}</h1><${Loading} what="Reading the job" />`;
  return html`<${Header} job=${job} scope=${scope} />
    ${job.error && job.state !== "succeeded" && html`<${Wrong} job=${job} />`}
    ${job.damage && html`<div class="fault" role="alert"><strong>A message of this job's log cannot be read.</strong><span>${job.damage.reason}</span></div>`}
    ${!ENDED.has(job.state) && html`<${Why} job=${job} scope=${scope} />`}
    ${preview && ACTIVE.has(job.state) && html`<section aria-labelledby="preview"><h2 id="preview">So far</h2><img class="preview" src=${preview} alt="What the running attempt has so far" /></section>`}
    <section aria-labelledby="life"><h2 id="life">Life</h2><${Timeline} job=${job} events=${events} />
      <${EventList} events=${events} left=${left} /></section>
    ${job.state === "review" && review_note(job, scope)}
    ${(job.result !== null || job.artifacts.length > 0) && html`<section aria-labelledby="result"><h2 id="result">Result</h2>${job.result !== null ? html`<${Value} value=${job.result} name="result" />` : html`<p class="quiet">It has no result beside its files.</p>`}</section>`}
    ${job.artifacts.length > 0 && html`<${Artifacts} job=${job} scope=${scope} />`}
    <${Log} job=${job} scope=${scope} />
    <section aria-labelledby="payload"><h2 id="payload">Payload</h2>${job.payload === null ? html`<p class="quiet">${job.erasable ? "It stands in an encrypted file, for the job can be erased." : "It is not known any more."}</p>` : html`<${Value} value=${job.payload} name="payload" />`}</section>
    <${Facts} job=${job} />
    ${commands(job)}`;
}

function Header({ job, scope }) {
  const now = useNow();
  const may_act = may("submitter");
  const running = ACTIVE.has(job.state);
  const took = job.started_at && (job.ended_at ? secondsBetween(job.started_at, job.ended_at) : running ? (now - Date.parse(job.started_at)) / 1000 : null);
  const progress = running ? job.progress : null;
  return html`<div class="head job-head"><div><p class="crumb"><a href=${href("jobs")}>Jobs</a></p><h1>${job.kind || "A job"}</h1>
      <p class="row tight id"><code>${job.id}</code><${Copy} text=${job.id} what="the id" /></p></div>
    ${may_act && html`<div class="row actions">
      ${job.state === "dead" && html`<button type="button" class="primary" onClick=${() => redrive(job, scope)}>Redrive</button>`}
      ${!ENDED.has(job.state) && job.state !== "cancelling" && html`<button type="button" class="primary" data-tone="bad" onClick=${() => cancel(job, scope)}>Cancel job</button>`}
      <${Again} job=${job} scope=${scope} /></div>`}</div>
    <div class="now-line" data-state=${job.state}><span aria-live="polite"><${State} state=${job.state} /></span>
      ${job.archived_as && html`<span>It was ${job.archived_as}.</span>`}
      ${job.worker && (running || ENDED.has(job.state)) && html`<span>on <a href=${href(`workers/${job.worker}`)}>${job.worker}</a></span>`}
      ${job.attempt > 0 && html`<span>attempt ${number(job.attempt)}, ${number(job.failures)} of ${number(job.max_attempts)} failures</span>`}
      ${took !== null && took !== undefined && took !== "" && html`<span class="figures-inline">${span(took)}</span>`}
      ${job.next_attempt_at && WAITS.has(job.state) && html`<span>begins <${Ago} at=${job.next_attempt_at} /></span>`}</div>
    ${progress && html`<div class="progress-line"><${Bar} value=${progress.fraction} label="Progress" /><span><strong>${Math.floor((progress.fraction ?? 0) * 100)} %</strong> ${progress.message || progress.stage || ""}${progress.eta_s ? html` <span class="quiet">about ${span(progress.eta_s)} left</span>` : ""}</span></div>`}`;
}

const Wrong = ({ job }) => html`<div class="fault"><strong>${job.error.code}${job.reason ? ` (${job.reason.replaceAll("_", " ")})` : ""}</strong><span class="said">${job.error.message}</span>
  ${job.error.traceback && html`<details><summary>Traceback</summary><pre tabindex="0" aria-label="Traceback">${job.error.traceback}</pre></details>`}</div>`;

function Why({ job, scope }) {
  const [found, error] = useLoaded((signal) => get(`v1/jobs/${job.id}/explain`, { tenant: scope }, { signal }), [job.id, job.seq]);
  if (error || !found || job.state === "running") return null;
  const helps = [found.would_help].flat().filter(Boolean);
  return html`<section class="why" aria-labelledby="why"><h2 id="why">Why it ${job.state === "review" ? "is in review" : "waits"}</h2><p>${found.summary}</p>
    ${found.nearest_miss && html`<p>${typeof found.nearest_miss === "string" ? found.nearest_miss : found.nearest_miss.message ?? ""}</p>`}
    ${helps.length > 0 && html`<p><strong>What would help:</strong> ${helps.map((one) => (typeof one === "string" ? one : one.message ?? JSON.stringify(one))).join("; ")}</p>`}
    ${found.workers?.length > 0 && html`<details><summary>What each worker says</summary><ul class="verdicts">${found.workers.slice(0, 100).map((one) => html`<li key=${one.id}><code>${one.id}</code> ${one.verdict?.replaceAll("_", " ")}${one.failed?.length ? `: ${one.failed.map((clause) => clause.message).join("; ")}` : ""}</li>`)}</ul></details>`}</section>`;
}

function EventList({ events, left }) {
  const [isAll, setAll] = useState(false);
  const shown = isAll ? events : events.slice(-50);
  const before = left + events.length - shown.length;
  return html`<details class="events"><summary>${number(events.length + left)} events</summary>
    ${before > 0 && html`<p class="quiet">${number(before)} before these. ${!isAll && html`<button type="button" class="small" onClick=${() => setAll(true)}>Show all</button>`}</p>`}
    <ol>${shown.map((event) => html`<li key=${event.seq} data-seq=${event.seq}><time datetime=${event.at} title=${moment(event.at)}>${clockTime(event.at)}</time>
      <span><strong>${EVENTS[event.type] ?? event.type}</strong> <span class="quiet">${event.actor}</span>${event.unreadable && html` <span class="bad">${event.unreadable}</span>`}
      ${event.data && Object.keys(event.data).length > 0 && html`<details><summary>Data</summary><${Value} value=${event.data} name=${`event ${event.seq}`} /></details>`}</span></li>`)}</ol></details>`;
}

function Facts({ job }) {
  const links = useMemo(() => [["Waits for", job.links?.parents], ["Others that wait for it", job.links?.children]], [job]);
  const idOf = (path) => path.split("/").pop().split("?")[0];
  return html`<section aria-labelledby="facts"><h2 id="facts">Facts</h2><dl class="facts">
    <${Fact} name="Submitted"><${Ago} at=${job.created_at} /> <span class="quiet">${moment(job.created_at)}</span><//>
    ${job.started_at && html`<${Fact} name="Started">${moment(job.started_at)}<//>`}
    ${job.ended_at && html`<${Fact} name="Ended">${moment(job.ended_at)}<//>`}
    <${Fact} name="Tenant">${job.tenant}<//>
    <${Fact} name="Priority">${job.priority}<//>
    ${job.key && html`<${Fact} name="API key"><code>${job.key}</code><//>`}
    ${job.workflow && html`<${Fact} name="Workflow">${job.workflow}<//>`}
    ${job.parent && html`<${Fact} name="Part of"><a href=${href(`jobs/${job.parent}`)}><code>${job.parent}</code></a><//>`}
    ${job.parts?.length > 0 && html`<${Fact} name="Parts"><ul class="plain">${job.parts.slice(0, 50).map((part) => html`<li key=${part.id}><a href=${href(`jobs/${part.id}`)}>${part.name || part.id}</a></li>`)}</ul><//>`}
    ${links.filter(([, some]) => some?.length).map(([name, some]) => html`<${Fact} name=${name} key=${name}><ul class="plain">${some.map((path) => html`<li key=${path}><a href=${href(`jobs/${idOf(path)}`)}><code>${idOf(path)}</code></a></li>`)}</ul><//>`)}
    ${Object.entries(job.labels).map(([name, value]) => html`<${Fact} name=${`Label ${name}`} key=${name}><a href=${href("jobs", { label: `${name}:${value}` })}>${value || "(nothing)"}</a><//>`)}
    ${Object.entries(job.usage ?? {}).map(([name, value]) => html`<${Fact} name=${`Used ${name}`} key=${name}>${value}<//>`)}
    ${Object.keys(job.requires ?? {}).length > 0 && html`<${Fact} name="Needs"><code>${JSON.stringify(job.requires)}</code><//>`}
    ${job.limits?.length > 0 && html`<${Fact} name="Limits">${job.limits.join(", ")}<//>`}</dl></section>`;
}
