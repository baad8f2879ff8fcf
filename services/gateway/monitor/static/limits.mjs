/** Limits: how many jobs may run at once and start a minute, what is in use, and which jobs hold the places. */
import { html, useEffect, useMemo } from "./html.mjs";
import { call, get } from "./api.mjs";
import * as live from "./live.mjs";
import { useWatched } from "./overview.mjs";
import { Table, useEvery } from "./paged.mjs";
import { Ago, Bar, Empty, Fact, Fault, Loading, Since, State, confirm, toast, useLoaded } from "./parts.mjs";
import { go, href } from "./router.mjs";
import { may } from "./session.mjs";
import { moment, number, plural, shortId, span } from "./words.mjs";

const REFRESH_MS = 3000, IDLE_MS = 30000, MOST_READ = 30, AT_ONCE = 6;
const WIDE = "all", NAME = "[a-z0-9][a-z0-9_\\-]{0,62}";
const NUMBERS = [["concurrency", "Jobs that may run at once"], ["per_minute", "Jobs that may start a minute"]];
const OF_TENANT = [["requests_per_minute", "Requests a minute"], ["keep_s", "Seconds that ended jobs stay"], ["keep_dead_s", "Seconds that dead jobs stay"], ["erase_s", "Seconds until jobs are erased"]];

const pathOf = (name) => `v1/limits/${encodeURIComponent(name)}`;
const isFull = (one) => !one.starts_left || (one.concurrency !== null && one.running >= one.concurrency);
const LimitState = ({ one }) => (one.running === undefined ? html`<span class="quiet">–</span>` : isFull(one) ? html`<${State} tone="late" words="Full" />` : html`<${State} tone="good" words="Has room" />`);
const starts = (one) => (one.per_minute === null ? html`<span class="quiet">any number</span>` : html`${number(one.per_minute)} a minute${one.starts_left === false ? html`, <span class="bad">none left now</span>` : ""}`);
const Places = ({ one }) => (one.concurrency === null ? html`${one.running === undefined ? "–" : number(one.running)} <span class="quiet">of any number</span>`
  : html`<span class="slots"><${Bar} value=${(one.running ?? 0) / one.concurrency} label=${`Places of ${one.name} that are taken`} tone=${one.running >= one.concurrency ? "late" : "running"} /><span class="percent">${one.running === undefined ? "–" : number(one.running)} of ${number(one.concurrency)}</span></span>`);

/** Set a limit; all of its numbers are replaced, so all that it has are there to be kept or changed. */
function ask(limit, tenant, again) {
  const field = ([name, words]) => html`<label for=${name} key=${name}>${words} <span class="quiet">(empty: any number)</span></label><input id=${name} name=${name} inputmode="numeric" autocomplete="off" defaultValue=${limit?.[name] ?? ""} key=${`${name} value`} />`;
  confirm({
    title: limit ? `Change the limit ${limit.name}?` : "Set a limit", action: limit ? "Change it" : "Set it",
    content: html`${limit ? html`<p>It holds at once, for jobs that wait too.</p>` : html`<p>It holds for jobs that name it in <code>limits</code>, the limit <code>${WIDE}</code> for every job of the tenant.</p>
        <label for="name">Name</label><input id="name" name="name" required pattern=${NAME} title="Lowercase letters, digits, - and _" autocomplete="off" spellcheck="false" />`}
      ${NUMBERS.map(field)}${limit?.name === WIDE && OF_TENANT.map(field)}`,
    act: async (form) => {
      const name = limit?.name ?? form.get("name").trim(), body = {};
      for (const [field_name, words] of [...NUMBERS, ...OF_TENANT]) {
        const text = (form.get(field_name) ?? "").trim();
        if (text && !(Number(text) > 0)) throw new Error(`${words}: a number over 0 was expected.`);
        if (text) body[field_name] = Number(text);
      }
      if (!limit && name === WIDE) { // what a dialog for any limit does not show must not be lost
        const old = await get(pathOf(WIDE), { tenant }).catch((problem) => (problem.status === 404 ? {} : Promise.reject(problem)));
        for (const [field_name] of OF_TENANT) if (old[field_name]) body[field_name] = old[field_name];
      }
      await call("PUT", pathOf(name), { body, query: { tenant } });
      toast(`The limit ${name} holds.`);
      again();
    },
  });
}

export function Limits({ tenant }) {
  const [limits, error, again] = useLoaded(async (signal) => {
    const { limits: all } = await get("v1/limits", { tenant }, { signal });
    const left = all.slice(0, MOST_READ), uses = new Map();
    const work = async () => {
      for (let one = left.pop(); one; one = left.pop()) uses.set(one.name, await get(pathOf(one.name), { tenant }, { signal }).catch(() => null));
    };
    await Promise.all(Array.from({ length: AT_ONCE }, work));
    return all.map((one) => uses.get(one.name) ?? one);
  }, [tenant]);
  // Each limit is a call of its own: the more there are, the longer it takes until they are read again.
  const often_ms = Math.max(REFRESH_MS, Math.min(MOST_READ, limits?.length ?? 0) * 1000);
  useEffect(() => live.pulse(often_ms, tenant, again), [tenant, often_ms]);
  useEvery(IDLE_MS, again);
  return html`<div class="head"><h1>Limits</h1><div class="row"><p class="quiet" role="status">${limits ? plural(limits.length, "limit") : ""}</p>${may("operator") && html`<button type="button" class="primary" onClick=${() => ask(null, tenant, again)}>Set a limit</button>`}</div></div>
    ${error && html`<${Fault} error=${error} again=${again} />`}
    ${!limits ? !error && html`<${Loading} what="Reading the limits" />` : limits.length ? html`<${Table} label="Limits" columns=${[["State"], ["Limit"], ["Running at once"], ["Starts", "minor"], ["Changed", "minor"]]}>
      ${limits.map((one) => html`<tr key=${one.name}><td><${LimitState} one=${one} /></td><th scope="row"><a class="breaks" href=${href(`limits/${one.name}`)}>${one.name}</a>${one.name === WIDE && html`<div class="under">every job of the tenant</div>`}</th><td><${Places} one=${one} /></td><td class="minor">${starts(one)}</td><td class="minor"><${Ago} at=${one.changed_at} /></td></tr>`)}<//>
      ${limits.length > MOST_READ && html`<p class="quiet">What is in use is read of the first ${MOST_READ}; the page of a limit shows its own.</p>`}`
    : html`<${Empty} title="There is no limit"><p>As many jobs run at once as there are slots. ${may("operator") ? "Set a limit to hold some of them back, as for a database that they share." : "An operator sets limits, with the command line:"}</p>${!may("operator") && html`<pre><code>switchyard limit set database --concurrency 5</code></pre>`}<//>`}`;
}

export function Limit({ id, tenant }) {
  const [limit, error, again] = useLoaded((signal) => get(pathOf(id), { tenant }, { signal }), [id, tenant]);
  useEffect(() => live.pulse(REFRESH_MS, tenant, again), [id, tenant]);
  useEvery(IDLE_MS, again);
  const queues = useWatched("queues", tenant);
  const waiting = useMemo(() => [...(queues?.values() ?? [])].filter((one) => one.limits?.includes(id)).reduce((sum, one) => sum + one.waiting, 0), [queues, id]);
  if (!limit) {
    if (!error) return html`<h1 class="sr">Limit ${id}</h1><${Loading} what="Reading the limit" />`;
    return error.status === 404 ? html`<${Empty} title="There is no such limit" whole><p>Nobody has set <code>${id}</code>, or somebody has removed it.</p><p><a href=${href("limits")}>Show all limits</a></p><//>` : html`<h1>Limit</h1><${Fault} error=${error} again=${again} />`;
  }
  const remove = () => confirm({
    title: `Remove the limit ${limit.name}?`, tone: "bad", action: "Remove", content: html`<p>Jobs that it holds back may start at once.</p>`,
    act: async () => {
      await call("DELETE", pathOf(id), { query: { tenant } });
      toast("The limit is removed.");
      go("limits");
    },
  });
  const own = OF_TENANT.filter(([name]) => limit[name] !== null);
  return html`<div class="head job-head"><div><p class="crumb"><a href=${href("limits")}>Limits</a></p><h1>${limit.name}</h1></div>
      ${may("operator") && html`<div class="row actions"><button type="button" class="primary" onClick=${() => ask(limit, tenant, again)}>Change</button><button type="button" onClick=${remove}>Remove</button></div>`}</div>
    <div class="now-line"><span aria-live="polite"><${LimitState} one=${limit} /></span><span>${number(limit.running)} ${limit.concurrency === null ? "running" : `of ${plural(limit.concurrency, "place")} taken`}</span><span>${number(waiting)} waiting</span><span>${limit.name === WIDE ? "for every job of the tenant" : "for jobs that name it"}</span></div>
    ${error && html`<${Fault} error=${error} again=${again} />`}
    <section aria-labelledby="holders"><h2 id="holders">Who holds the places</h2>${limit.jobs === null ? html`<p class="quiet">Only the tenant itself sees its jobs.</p>` : limit.jobs.length ? html`<${Table} label="Jobs that hold places" columns=${[["State"], ["Job"], ["Worker"], ["For", "num"]]}>${limit.jobs.map((job) => html`<tr key=${job.id}>
        <td><${State} state=${job.state} /></td><th scope="row"><a href=${href(`jobs/${job.id}`)} title=${job.id}>${job.kind} <code>${shortId(job.id)}</code></a></th><td class="breaks">${job.worker ? html`<a href=${href(`workers/${job.worker}`)}>${job.worker}</a>` : "–"}</td><td class="num">${job.started_at ? html`<${Since} at=${job.started_at} />` : "–"}</td></tr>`)}<//>
        ${limit.running > limit.jobs.length && html`<p class="quiet">${number(limit.jobs.length)} of ${number(limit.running)}.</p>`}`
      : html`<p class="quiet">No job holds one now.${limit.running ? " Those that ran end just now." : ""}</p>`}</section>
    <section aria-labelledby="facts"><h2 id="facts">Facts</h2><dl class="facts"><${Fact} name="At once">${limit.concurrency === null ? "Any number" : number(limit.concurrency)}<//><${Fact} name="Starts">${starts(limit)}<//>
      ${own.map(([name, words]) => html`<${Fact} name=${words} key=${name}>${name.endsWith("_s") ? span(limit[name]) : number(limit[name])}<//>`)}<${Fact} name="Changed">${moment(limit.changed_at)}<//><${Fact} name="Tenant">${limit.tenant}<//></dl></section>`;
}
