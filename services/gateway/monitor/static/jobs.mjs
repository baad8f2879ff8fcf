/** All jobs: searched, filtered by what stands in the address, and changed by what happens. */
import { html, useCallback, useEffect, useMemo, useRef, useState } from "./html.mjs";
import { get, post, raw } from "./api.mjs";
import { VirtualList, useRowHeight } from "./list.mjs";
import * as live from "./live.mjs";
import { Ago, Bar, Empty, Fault, Loading, State, confirm, toast, useNow } from "./parts.mjs";
import { href, replace } from "./router.mjs";
import { may } from "./session.mjs";
import { ACTIVE, AFTER, ENDED, WAITS, plural, secondsBetween, shortId, span, stateWords } from "./words.mjs";

const PAGE = 100, MOST_ROWS = 100000, KEPT_ROWS = 500, BELOW = 400, MOST_CHOSEN = 1000, LIVE_ROWS = 100, AT_ONCE = 6, REFRESH_MS = 1000;
const GROUPS = [["", "All states"], ["active", "Running"], ["waiting", "Waiting"], ["ended", "Ended"]];
const STATES = ["queued", "scheduled", "blocked", "retrying", "review", "running", "cancelling", "succeeded", "dead", "cancelled", "expired", "archived", "damaged"];
const SINCE = { "1h": [3600, "Last hour"], "24h": [86400, "Last 24 hours"], "7d": [604800, "Last 7 days"] };
const SORTS = [["", "Newest first"], ["created_at", "Oldest first"], ["-updated_at", "Changed last"]];
const PREFIX = /^[0-9a-f][0-9a-f-]{3,35}$/i;

const filters = (query) => ({
  state: query.get("state") ?? "", kind: query.get("kind") ?? "", label: query.getAll("label"), since: query.get("since") ?? "",
  sort: query.get("sort") ?? "", q: query.get("q") ?? "",
});

/** A page of what the filters select; the ids of a search are looked up one by one.
 *
 * `at` of a row is the last event of the log that it was read after, so that its events are followed from there.
 */
async function page(wish, tenant, cursor, signal) {
  if (wish.q) {
    const found = await get("v1/job-ids", { prefix: wish.q.toLowerCase(), limit: 20, tenant }, { signal });
    const jobs = await Promise.all(found.ids.map((id) => get(`v1/jobs/${id}`, { tenant: tenant === "*" ? undefined : tenant }, { signal }).catch(() => null)));
    return { jobs: jobs.filter(Boolean).map((job) => ({ ...job, at: job.seq })), cursor: null };
  }
  const created_after = SINCE[wish.since] ? new Date(Date.now() - SINCE[wish.since][0] * 1000).toISOString() : undefined;
  const answer = await raw("v1/jobs", { state: wish.state, kind: wish.kind, label: wish.label, sort: wish.sort, created_after, limit: PAGE, cursor, tenant }, { signal });
  const at = Number(answer.headers.get("Switchyard-Seq")), found = await answer.json();
  return { ...found, jobs: found.jobs.map((job) => ({ ...job, at })) };
}

export function Jobs({ route, tenant }) {
  const wish = useMemo(() => filters(route.query), [route]);
  const key = JSON.stringify([wish, tenant]);
  const [list, setList] = useState({ key: "", rows: [], cursor: null, isWhole: false });
  const [error, setError] = useState(null);
  const [chosen, setChosen] = useState(new Map()); // by id: the rows as they were chosen, for they may go
  const [fresh, setFresh] = useState(0);
  const state = useRef({});
  const height = useRowHeight(84, 45);
  const rows = list.key === key ? list.rows : [];
  state.current = { ...state.current, key, wish, list, height };

  const read = useCallback(async (cursor) => {
    const at = state.current;
    if (at.reading === `${at.key} ${cursor}`) return;
    at.reading = state.current.reading = `${at.key} ${cursor}`;
    try {
      const found = await page(at.wish, tenant, cursor);
      if (state.current.key !== at.key) return;
      setError(null);
      setList((old) => {
        const known = new Set(cursor ? old.rows.map((job) => job.id) : []);
        const rows = cursor ? [...old.rows, ...found.jobs.filter((job) => !known.has(job.id))] : found.jobs;
        return { key: at.key, rows: rows.slice(0, MOST_ROWS), cursor: found.cursor, isWhole: !found.cursor || rows.length >= MOST_ROWS };
      });
    } catch (problem) {
      if (state.current.key === at.key) setError(problem);
    } finally {
      state.current.reading = null;
    }
  }, [tenant]);

  useEffect(() => {
    setChosen(new Map());
    setFresh(0);
    read(null);
  }, [key]);

  // The first page again, when anything happens: what is new goes before what is there.
  const refresh = useCallback(async () => {
    const at = state.current;
    if (at.wish.q || at.wish.sort === "created_at" || document.hidden) return;
    const found = await page(at.wish, tenant, null).catch(() => null);
    if (!found || state.current.key !== at.key) return;
    setList((old) => {
      if (old.key !== at.key) return old;
      const now = new Map(found.jobs.map((job) => [job.id, job]));
      const known = new Map(old.rows.map((job) => [job.id, job]));
      const newest = (job) => (known.get(job.id)?.seq > job.seq ? { ...known.get(job.id), at: job.at } : job);
      const top = found.jobs.findIndex((job) => known.has(job.id)), last = found.jobs.findLast((job) => known.has(job.id));
      const before = top < 0 ? found.jobs.length : top, isBelow = scrollY > BELOW;
      setFresh(isBelow ? before : 0);
      if (before && isBelow) return { ...old, rows: old.rows.map((job) => (now.has(job.id) ? newest(now.get(job.id)) : job)) };
      const behind = last ? old.rows.findIndex((job) => job.id === last.id) : -1;
      // At the top the list begins again where that fills the window: else it would grow with every job that comes, and
      // what came or went further down would never be seen.
      const isEnough = found.jobs.length * at.height > 2 * innerHeight + BELOW || old.rows.length > KEPT_ROWS;
      if (behind < 0 || (!isBelow && isEnough)) return { key: at.key, rows: found.jobs.map(newest), cursor: found.cursor, isWhole: !found.cursor };
      return { ...old, rows: [...found.jobs.map(newest), ...old.rows.slice(behind + 1).filter((job) => !now.has(job.id))] };
    });
  }, [tenant]);
  useEffect(() => live.pulse(REFRESH_MS, tenant, refresh), [tenant, refresh]);

  // Every transition of the rows that are seen, as it happens.
  const [watched, setWatched] = useState("");
  const seen = useCallback((items) => {
    clearTimeout(state.current.settle);
    state.current.settle = setTimeout(() => setWatched(items.filter((job) => !ENDED.has(job.state)).slice(0, LIVE_ROWS).map((job) => job.id).join(" ")), 200);
  }, []);
  useEffect(() => {
    if (!watched) return undefined;
    const change = (id, made) => setList((old) => {
      const place = old.rows.findIndex((job) => job.id === id);
      if (place < 0) return old;
      const job = made(old.rows[place]);
      if (job === old.rows[place]) return old;
      return { ...old, rows: old.rows.with(place, job) };
    });
    // From where the rows were read, or were followed to: what happened since, nobody would say again.
    const ids = new Set(watched.split(" ")), { list: { rows: all }, last } = state.current;
    const ats = all.filter((job) => ids.has(job.id)).map((job) => (last?.ids.has(job.id) ? Math.max(last.seq, job.at) : job.at));
    const leave = live.subscribe({ jobs: [...ids] }, {
      seq: ats.length ? Math.min(...ats) : undefined,
      event: (event) => change(event.job_id, (job) => changed(job, event)),
      progress: (id, progress) => change(id, (job) => (job.state === "running" ? { ...job, progress } : job)),
      resync: refresh,
    });
    return () => { state.current.last = { ids, seq: leave() }; };
  }, [watched]);

  const choose = (job, isChosen) => setChosen((old) => {
    const next = new Map(old);
    if (isChosen && next.size < MOST_CHOSEN) next.set(job.id, job);
    else next.delete(job.id);
    return next;
  });
  const near = useCallback(() => {
    const { list: now, key: at } = state.current;
    if (now.key === at && now.cursor && !now.isWhole) read(now.cursor);
  }, [read]);
  const may_act = may("submitter");
  const row = (job, index) => html`<${Row} key=${job.id} job=${job} index=${index} height=${height} isChosen=${chosen.has(job.id)} choose=${may_act ? choose : null} tenant=${tenant} />`;
  const isFiltered = Boolean(wish.state || wish.kind || wish.label.length || wish.since || wish.q);
  const read_all = list.key === key;
  return html`<div class="head"><h1>Jobs</h1><p class="quiet" role="status">${read_all ? `${plural(rows.length, "job")}${list.isWhole ? "" : " so far"}` : ""}</p></div>
    <${Search} wish=${wish} rows=${rows} />
    ${error && html`<${Fault} error=${error} again=${() => read(null)} />`}
    ${may_act && chosen.size > 0 && html`<${Chosen} chosen=${chosen} rows=${rows} clear=${() => setChosen(new Map())} tenant=${tenant} refresh=${refresh} all=${() => setChosen(new Map(rows.slice(0, MOST_CHOSEN).map((job) => [job.id, job])))} />`}
    ${fresh > 0 && html`<button type="button" class="fresh" onClick=${() => { setFresh(0); scrollTo(0, 0); refresh(); }}>Show ${fresh >= PAGE ? `${PAGE} or more new jobs` : plural(fresh, "new job")}</button>`}
    ${rows.length ? html`<${VirtualList} rows=${rows} height=${height} row=${row} near=${near} seen=${seen} label="Jobs" head=${html`<${Head} isChecked=${may_act} />`} />
      ${!list.isWhole && html`<p class="quiet">There are more, which come as you scroll.</p>`}`
    : !read_all ? !error && html`<${Loading} what="Reading the jobs" />`
    : isFiltered ? html`<${Empty} title="No job is like this"><p>${wish.q && !PREFIX.test(wish.q) ? "An id has hex digits." : "Other filters may find some."} <a href="#/jobs">Show all jobs</a></p><//>`
    : html`<${Empty} title="There is no job yet"><p>Submit the first one with the command line, or with <code>POST /v1/jobs</code>:</p>
      <pre><code>switchyard submit simulate '{"duration_s": 5}'</code></pre><//>`}`;
}

/** A job after an event, as far as that says it; the next page of the list says the rest. */
function changed(job, event) {
  const state = AFTER[event.type];
  if (event.seq <= job.seq || !state) return job;
  const next = { ...job, state, seq: event.seq, updated_at: event.at ?? job.updated_at };
  if (state === "running") Object.assign(next, { worker: event.data?.worker, attempt: event.data?.attempt ?? job.attempt, started_at: event.at, progress: null });
  else next.progress = null;
  if (event.data?.error) next.error = event.data.error;
  if (ENDED.has(state)) next.ended_at = event.at;
  return next;
}

function Search({ wish, rows }) {
  const [text, setText] = useState("");
  const kinds = [...new Set([...rows.map((job) => job.kind), ...(wish.kind ? [wish.kind] : [])])].sort();
  const submit = (event) => {
    event.preventDefault();
    const value = text.trim();
    if (!value) return replace({ q: null });
    const [name, ...rest] = value.split(/[=:]/);
    setText("");
    if (rest.length) return replace({ label: [...wish.label, `${name.trim()}:${rest.join(":").trim()}`], q: null });
    if (PREFIX.test(value)) return replace({ q: value });
    return replace({ kind: value, q: null });
  };
  const chips = [...(wish.q ? [["Id begins with", wish.q, () => replace({ q: null })]] : []),
    ...wish.label.map((one) => ["Label", one.replace(":", " = "), () => replace({ label: wish.label.filter((other) => other !== one) })])];
  return html`<form class="filters" role="search" onSubmit=${submit}>
    <label class="grow"><span>Search</span><input type="search" value=${text} onInput=${(event) => setText(event.target.value)} placeholder="An id, a kind, or label=value" autocomplete="off" spellcheck="false" /></label>
    <label><span>State</span><select value=${wish.state} onChange=${(event) => replace({ state: event.target.value })}>
      ${GROUPS.map(([value, words]) => html`<option key=${value} value=${value}>${words}</option>`)}<optgroup label="Exactly">${STATES.map((one) => html`<option key=${one} value=${one}>${stateWords(one)}</option>`)}</optgroup></select></label>
    <label><span>Kind</span><select value=${wish.kind} onChange=${(event) => replace({ kind: event.target.value })}><option value="">All kinds</option>${kinds.map((one) => html`<option key=${one} value=${one}>${one}</option>`)}</select></label>
    <label><span>Submitted</span><select value=${wish.since} onChange=${(event) => replace({ since: event.target.value })}><option value="">At any time</option>${Object.entries(SINCE).map(([value, [, words]]) => html`<option key=${value} value=${value}>${words}</option>`)}</select></label>
    <label><span>Order</span><select value=${wish.sort} onChange=${(event) => replace({ sort: event.target.value })}>${SORTS.map(([value, words]) => html`<option key=${value} value=${value}>${words}</option>`)}</select></label>
    ${chips.length > 0 && html`<div class="chips">${chips.map(([name, value, drop]) => html`<button type="button" class="chip" key=${name + value} onClick=${drop} aria-label=${`Remove ${name} ${value}`}>${name} <strong>${value}</strong> <span aria-hidden="true">✕</span></button>`)}</div>`}</form>`;
}

const Head = ({ isChecked }) => html`<div class="row-head job-row" role="rowgroup"><div role="row" aria-rowindex="1">${isChecked && html`<span role="columnheader"><span class="sr">Choose</span></span>`}
  <span role="columnheader">State</span><span role="columnheader">Job</span><span role="columnheader">What happens</span><span role="columnheader" class="num">Time</span><span role="columnheader" class="num">Submitted</span></div></div>`;

function Row({ job, index, height, isChosen, choose, tenant }) {
  const other = tenant ? job.tenant : undefined;
  return html`<div class="job-row item" role="row" aria-rowindex=${index + 2} style=${{ height: `${height}px` }} data-state=${job.state}>
    ${choose && html`<span role="cell" class="check"><input type="checkbox" checked=${isChosen} onChange=${(event) => choose(job, event.target.checked)} aria-label=${`Choose job ${job.id}`} /></span>`}
    <span role="cell" class="is"><${State} state=${job.state} /></span>
    <span role="cell" class="what"><a href=${href(`jobs/${job.id}`, other ? { tenant: other } : {})} title=${job.id}><strong>${job.kind || "unknown"}</strong> <code>${shortId(job.id)}</code></a>${tenant === "*" && html`<span class="tag">${job.tenant}</span>`}<${Labels} labels=${job.labels} /></span>
    <span role="cell" class="now"><${Now} job=${job} /></span>
    <span role="cell" class="num took"><${Took} job=${job} /></span>
    <span role="cell" class="num when"><${Ago} at=${job.created_at} /></span></div>`;
}

const Labels = ({ labels }) => Object.entries(labels ?? {}).slice(0, 3).map(([name, value]) => html`<span class="tag" key=${name} title=${`${name}: ${value}`}>${name}: ${value}</span>`);

function Now({ job }) {
  if (job.state === "running" && job.progress) {
    const { fraction, message, stage } = job.progress;
    return html`<span class="progress"><${Bar} value=${fraction} label=${`Progress of job ${job.id}`} /><span class="percent">${Math.floor((fraction ?? 0) * 100)} %</span><span class="said">${message || stage || ""}</span></span>`;
  }
  if (ACTIVE.has(job.state)) return html`<span class="said">on ${job.worker ?? "a worker"}${job.attempt > 1 ? `, attempt ${job.attempt}` : ""}</span>`;
  if (job.error && job.state !== "succeeded") return html`<span class="said" title=${job.error.message}>${job.error.code}: ${job.error.message}</span>`;
  if (job.reason) return html`<span class="said">${job.reason.replaceAll("_", " ")}</span>`;
  if (job.state === "retrying" || job.state === "scheduled") return html`<span class="said">${job.next_attempt_at && html`begins <${Ago} at=${job.next_attempt_at} />`}</span>`;
  if (WAITS.has(job.state)) return html`<span class="said">priority ${job.priority}</span>`;
  return html`<span class="said">${job.worker ? `on ${job.worker}` : ""}</span>`;
}

function Took({ job }) {
  const now = useNow();
  if (!job.started_at) return "–";
  if (job.ended_at) return span(secondsBetween(job.started_at, job.ended_at));
  return ACTIVE.has(job.state) ? span((now - Date.parse(job.started_at)) / 1000) : "–";
}

/** What is done to many at once, a few at a time. */
export async function each(ids, act) {
  const done = [], refused = [];
  const left = [...ids];
  const work = async () => {
    for (let id = left.pop(); id !== undefined; id = left.pop()) {
      try {
        await act(id);
        done.push(id);
      } catch (problem) {
        refused.push([id, problem]);
        if (problem.status === 401) return;
        if (problem.status === 429) await new Promise((resolve) => setTimeout(resolve, 1000));
      }
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, work));
  return { done, refused };
}

function Chosen({ chosen, rows, clear, all, tenant, refresh }) {
  const now = new Map(rows.map((job) => [job.id, job]));
  const jobs = [...chosen.values()].map((job) => now.get(job.id) ?? job);
  const open = jobs.filter((job) => !ENDED.has(job.state)), dead = jobs.filter((job) => job.state === "dead");
  const scope = (job) => ({ query: { tenant: tenant ? job.tenant : undefined } });
  const bulk = (which, verb, past, path, body) => confirm({
    title: `${verb} ${plural(which.length, "job")}?`, tone: verb === "Cancel" ? "bad" : undefined, action: `${verb} ${plural(which.length, "job")}`,
    content: html`<p>${verb === "Cancel" ? "Jobs that wait end at once. Jobs that run are asked to stop, and taken away from their worker when they do not." : "Each gets a new start with all of its attempts, and the payload that it has."}</p>`,
    act: async () => {
      const { done, refused } = await each(which, (job) => post(`v1/jobs/${job.id}/${path}`, body, scope(job)));
      toast(`${plural(done.length, "job")} ${past}${refused.length ? `; ${refused.length} refused: ${refused[0][1].message}` : ""}`, refused.length ? "bad" : "good");
      clear();
      refresh();
    },
  });
  return html`<div class="chosen" role="region" aria-label="Chosen jobs"><strong>${plural(chosen.size, "job")} chosen</strong>
    <button type="button" disabled=${!open.length} onClick=${() => bulk(open, "Cancel", "cancelled or asked to stop", "cancel", {})}>Cancel ${open.length || ""}</button>
    <button type="button" disabled=${!dead.length} onClick=${() => bulk(dead, "Redrive", "redriven", "redrive", {})}>Redrive ${dead.length || ""}</button>
    <button type="button" onClick=${all}>Choose all shown</button><button type="button" onClick=${clear}>Choose none</button></div>`;
}
