/** Jobs that will not be tried again: why, and what to do with many at once. */
import { html, useEffect, useMemo } from "./html.mjs";
import { get, post } from "./api.mjs";
import * as live from "./live.mjs";
import { More, usePages } from "./paged.mjs";
import { Ago, Empty, Fault, Loading, confirm, toast } from "./parts.mjs";
import { href, replace } from "./router.mjs";
import { may } from "./session.mjs";
import { cut, number, plural, shortId } from "./words.mjs";

const PAGE = 100, REFRESH_MS = 5000, AT_ONCE = 500, MOST_CALLS = 200;
const REASONS = ["not_retryable", "failures_spent", "poison", "dependency_died", "rejected_too_often", "released_too_often", "part_failed", "part_refused", "damaged"];

export function DeadLetters({ route, tenant }) {
  const wish = useMemo(() => ({ kind: route.query.get("kind") ?? "", reason: route.query.get("reason") ?? "", code: route.query.get("code") ?? "" }), [route]);
  const list = usePages(async (cursor, signal) => {
    const found = await get("v1/dead-letters", { ...wish, limit: PAGE, cursor, tenant }, { signal });
    return [found.dead_letters, found.cursor];
  }, (job) => job.id, [wish, tenant]);
  const { rows, isRead, error, again } = list;
  useEffect(() => live.pulse(REFRESH_MS, tenant, again), [tenant]);
  const kinds = [...new Set(rows.map((job) => job.kind).concat(wish.kind || []))].sort(), codes = [...new Set(rows.map((job) => job.error?.code).filter(Boolean).concat(wish.code || []))].sort();
  const filter = Object.fromEntries(Object.entries(wish).filter(([, value]) => value).map(([name, value]) => [name, [value]]));
  const which = Object.keys(filter).length ? "all that these filters select" : "all dead letters";
  const many = (verb, path, past) => confirm({
    title: `${verb} ${which}?`, action: verb, tone: path === "discard" ? "bad" : undefined,
    content: html`<p>${path === "redrive" ? "Each gets a new start with all of its attempts." : "Each is archived: a summary stays for a while, its payload and history go."} Those that are not shown yet are among them.</p>`,
    act: async () => {
      let at, done = 0, refused = 0, fault = "";
      for (let calls = 0; calls < MOST_CALLS; calls += 1) {
        const answer = await post(`v1/dead-letters/${path}`, { filter, limit: AT_ONCE, ...(at ? { cursor: at } : {}) }, { query: { tenant } });
        done += answer[past];
        refused += answer.refused;
        fault ||= answer.errors?.[0]?.message ?? "";
        at = answer.cursor;
        if (!at) break;
      }
      toast(`${plural(done, "job")} ${past}${refused ? `; ${number(refused)} refused: ${fault}` : ""}${at ? "; there are more: do it again" : ""}`, refused ? "bad" : "good");
      again();
    },
  });
  return html`<div class="head"><h1>Dead letters</h1>${may("submitter") && rows.length > 0 && html`<div class="row actions"><button type="button" class="primary" onClick=${() => many("Redrive", "redrive", "redriven")}>Redrive all</button><button type="button" onClick=${() => many("Discard", "discard", "discarded")}>Discard all</button></div>`}</div>
    <form class="filters" role="search" onSubmit=${(event) => event.preventDefault()}>${[["kind", "Kind", "All kinds", kinds], ["reason", "Reason", "All reasons", REASONS], ["code", "Error", "All errors", codes]].map(([name, words, all, values]) => html`<label key=${name}><span>${words}</span><select value=${wish[name]} onChange=${(event) => replace({ [name]: event.target.value })}><option value="">${all}</option>${values.map((one) => html`<option key=${one} value=${one}>${one.replaceAll("_", " ")}</option>`)}</select></label>`)}</form>
    ${error && html`<${Fault} error=${error} again=${again} />`}
    ${!isRead ? !error && html`<${Loading} what="Reading the dead letters" />` : rows.length ? html`<div class="scroll" tabindex="0" role="group" aria-label="Dead letters"><table class="wide-table"><thead><tr><th scope="col">Job</th><th scope="col" class="minor">Why</th><th scope="col">Error</th><th scope="col" class="num minor">Failures</th><th scope="col">Died</th></tr></thead><tbody>${rows.map((job) => html`<tr key=${job.id}>
      <th scope="row"><a href=${href(`jobs/${job.id}`, tenant ? { tenant: job.tenant } : {})} title=${job.id}>${job.kind} <code>${shortId(job.id)}</code></a></th><td class="minor">${(job.reason ?? "").replaceAll("_", " ")}</td><td class="said-cell"><strong>${job.error?.code}</strong> <span class="quiet">${cut(job.error?.message, 300)}</span></td><td class="num minor">${number(job.failures)}</td><td><${Ago} at=${job.ended_at} /></td></tr>`)}</tbody></table></div>
      <${More} further=${list.further} />`
    : html`<${Empty} title="Nothing is dead">${Object.keys(filter).length ? html`<a href="#/dead-letters">Show all dead letters</a>` : html`<p>Jobs whose attempts are spent, or that cannot be tried again, wait here for somebody to redrive or discard them.</p>`}<//>`}`;
}
