/** Results that wait for somebody to judge them: what was proposed, how it differs from the last, accept or send back. */
import { html, useEffect, useMemo, useState } from "./html.mjs";
import { get, post } from "./api.mjs";
import { Difference } from "./diff.mjs";
import * as live from "./live.mjs";
import { More, Table, save, useEvery, usePages } from "./paged.mjs";
import { Ago, Copy, Empty, Fact, Fault, Loading, State, confirm, toast, useLoaded } from "./parts.mjs";
import { go, href } from "./router.mjs";
import { current, may } from "./session.mjs";
import { Value } from "./value.mjs";
import { bytes, cut, moment, number, plural, shortId } from "./words.mjs";

const PAGE = 50, REFRESH_MS = 3000, IDLE_MS = 30000, EVENTS_PAGE = 500, MOST_PAGES = 20, MOST_FILES = 50, URL_S = 600;

const Keeper = ({ review }) => {
  if (!review?.reviewer) return html`<${State} tone="waiting" words="Free" />`;
  return review.reviewer === current().actor ? html`<${State} tone="running" words="Kept for you" />` : html`<${State} tone="late" words=${`Kept for ${cut(review.reviewer, 40)}`} />`;
};
const checksOf = (review) => Object.entries(review?.checks ?? {});
const Checks = ({ review }) => {
  const all = checksOf(review), bad = all.filter(([, passed]) => !passed).length;
  if (!all.length) return html`<span class="quiet">none</span>`;
  return bad ? html`<${State} tone="bad" words=${`${number(bad)} of ${number(all.length)} failed`} />` : html`<${State} tone="good" words=${`${number(all.length)} passed`} />`;
};

export function Reviews({ tenant }) {
  const list = usePages(async (cursor, signal) => {
    const found = await get("v1/reviews", { limit: PAGE, cursor, tenant }, { signal });
    return [found.reviews, found.cursor];
  }, (job) => job.id, [tenant]);
  const { rows, isRead, error, again } = list;
  useEffect(() => live.pulse(REFRESH_MS, tenant, again), [tenant]);
  useEvery(IDLE_MS, again);
  return html`<div class="head"><h1>Reviews</h1><p class="quiet" role="status">${isRead ? `${plural(rows.length, "result")}${list.further ? " so far" : ""} to judge` : ""}</p></div>
    ${error && html`<${Fault} error=${error} again=${again} />`}
    ${!isRead ? !error && html`<${Loading} what="Reading the reviews" />` : rows.length ? html`<${Table} label="Reviews" columns=${[["State"], ["Job"], ["Proposed by", "minor"], ["Checks"], ["Sent back", "num minor"], ["Since"], ["Decided by itself", "minor"]]}>
      ${rows.map((job) => html`<tr key=${job.id}><td><${Keeper} review=${job.review} /></td><th scope="row"><a href=${href(`reviews/${job.id}`, tenant ? { tenant: job.tenant } : {})} title=${job.id}>${job.kind} <code>${shortId(job.id)}</code></a>${tenant === "*" && html` <span class="tag">${job.tenant}</span>`}</th>
        <td class="minor breaks">${job.review?.by || job.review?.worker || "–"}</td><td><${Checks} review=${job.review} /></td><td class="num minor">${number(job.rejections)}</td><td><${Ago} at=${job.review?.proposed_at} /></td><td class="minor"><${Ago} at=${job.review?.due_at} /></td></tr>`)}<//><${More} further=${list.further} />`
    : html`<${Empty} title="Nothing waits for a review"><p>Results that an attempt proposes wait here for somebody to accept them or send them back. A worker proposes one with <code>POST /v1/leases/{id}/propose</code>.</p><//>`}`;
}

/** What was proposed and said of a job so far, the newest last. */
async function past(id, tenant, signal) {
  const proposals = [], rejections = [];
  let after = 0;
  for (let page = 0; after !== null && page < MOST_PAGES; page += 1) {
    const found = await get(`v1/jobs/${id}/events`, { after, limit: EVENTS_PAGE, tenant }, { signal });
    for (const event of found.events) {
      if (event.type === "proposed") proposals.push(event);
      if (event.type === "rejected") rejections.push(event);
    }
    after = found.after;
  }
  return { proposals: proposals.slice(-2), rejections };
}

export function Review({ id, tenant }) {
  const scope = tenant === "*" ? undefined : tenant, query = { query: { tenant: scope } };
  const [job, error, again] = useLoaded((signal) => get(`v1/jobs/${encodeURIComponent(id)}`, { tenant: scope }, { signal }), [id, scope]);
  const at = job?.review?.proposed_at;
  const [before] = useLoaded((signal) => (at ? past(job.id, scope, signal) : Promise.resolve(null)), [job?.id, scope, at]);
  useEffect(() => (job ? live.subscribe({ jobs: [job.id], progress: false }, { event: again, resync: again, seq: job.seq }) : undefined), [job?.id]);
  if (!job) {
    if (!error) return html`<h1 class="sr">Review ${id}</h1><${Loading} what="Reading the proposal" />`;
    return error.status === 404 ? html`<${Empty} title="There is no such job" whole><p>It is not there, or it is another tenant's: <code>${id}</code></p><p><a href=${href("reviews")}>Show all reviews</a></p><//>` : html`<h1>Review</h1><${Fault} error=${error} again=${again} />`;
  }
  const link = href(`jobs/${job.id}`, scope ? { tenant: scope } : {});
  if (job.state !== "review") {
    return html`<div class="head"><div><p class="crumb"><a href=${href("reviews")}>Reviews</a></p><h1>${job.kind}</h1></div></div>
      <${Empty} title="It is not in review any more"><p><${State} state=${job.state} /></p><p><a href=${link}>Show the job</a></p><//>`;
  }
  const { review } = job, isMine = review.reviewer === current().actor;
  const judge = async (verb, body) => {
    try { // the gateway judges no other proposal than that of the attempt which was shown
      await post(`v1/reviews/${job.id}/${verb}`, body, { ...query, headers: { "If-Match": `"${job.attempt}"` } });
    } catch (problem) {
      again();
      if (problem.code === "precondition_failed") throw new Error("Another result was proposed meanwhile. Read it first.");
      throw problem;
    }
  };
  const accept = () => confirm({
    title: "Accept this result?", action: "Accept", content: html`<p>It becomes the result of the job, which has then succeeded. Nothing takes that back.</p>`,
    act: async () => {
      await judge("accept", {});
      toast("The result is accepted.");
      go("reviews");
    },
  });
  const reject = () => confirm({
    title: "Send it back?", action: "Send back", wide: true,
    content: html`<p>The job goes back to its lane, and its next attempt reads what you write.</p><label for="reason">Reason</label><input id="reason" name="reason" required maxlength="10000" autocomplete="off" />
      <label for="feedback">What to change <span class="quiet">(text or JSON, may be empty)</span></label><textarea id="feedback" name="feedback" rows="8" spellcheck="true"></textarea>`,
    act: async (form) => {
      const reason = form.get("reason").trim(), text = form.get("feedback").trim();
      if (!reason) throw new Error("Give a reason.");
      let feedback = text;
      if (/^[[{]/.test(text)) try { feedback = JSON.parse(text); } catch { /* it is text that begins so */ }
      await judge("reject", { reason, ...(text ? { feedback } : {}) });
      toast("The job was sent back.");
      go("reviews");
    },
  });
  const keep = async (verb, words) => {
    try {
      await post(`v1/reviews/${job.id}/${verb}`, {}, query);
      toast(words);
    } catch (problem) {
      toast(problem.message, "bad");
    }
    again();
  };
  const last = before?.proposals.length > 1 ? before.proposals[0] : null;
  return html`<div class="head job-head"><div><p class="crumb"><a href=${href("reviews")}>Reviews</a></p><h1>${job.kind}</h1><p class="row tight id"><a href=${link}><code>${job.id}</code></a><${Copy} text=${job.id} what="the id" /></p></div>
      ${may("reviewer") && html`<div class="row actions"><button type="button" class="primary" onClick=${accept}>Accept</button><button type="button" onClick=${reject}>Send back</button>
        ${isMine ? html`<button type="button" onClick=${() => keep("release", "Others may judge it.")}>Leave it to others</button>` : html`<button type="button" onClick=${() => keep("claim", "It is kept for you.")}>Keep it for me</button>`}</div>`}</div>
    <div class="now-line"><span aria-live="polite"><${Keeper} review=${review} /></span><span class="breaks">proposed by ${review.by || review.worker || "a worker"} <${Ago} at=${review.proposed_at} /></span>${job.rejections > 0 && html`<span>sent back ${plural(job.rejections, "time")}</span>`}
      ${review.due_at && html`<span>decided by itself <${Ago} at=${review.due_at} /></span>`}${isMine && review.expires_at && html`<span>yours until <${Ago} at=${review.expires_at} /></span>`}</div>
    ${error && html`<${Fault} error=${error} again=${again} />`}
    ${checksOf(review).length > 0 && html`<section aria-labelledby="checks"><h2 id="checks">Checks</h2><ul class="plain lines">${checksOf(review).slice(0, 200).map(([name, passed]) => html`<li key=${name}><${State} tone=${passed ? "good" : "bad"} words=${passed ? "Passed" : "Failed"} /><span>${name}</span></li>`)}</ul></section>`}
    ${before?.rejections.length > 0 && html`<${Said} rejections=${before.rejections} />`}
    ${last && html`<section aria-labelledby="difference"><h2 id="difference">Difference to the last proposal</h2><${Difference} old=${last.data?.result} now=${review.result} /></section>`}
    <section aria-labelledby="proposal"><h2 id="proposal">What is proposed</h2>${review.result === null ? html`<p class="quiet">No result beside its files.</p>` : html`<${Value} value=${review.result} name="proposal" />`}<${Files} files=${review.artifacts} scope=${scope} /></section>
    <section aria-labelledby="payload"><h2 id="payload">What was asked for</h2>${job.payload === null ? html`<p class="quiet">The payload is not known any more.</p>` : html`<${Value} value=${job.payload} name="payload" />`}</section>
    <section aria-labelledby="facts"><h2 id="facts">Facts</h2><dl class="facts"><${Fact} name="Proposed">${moment(review.proposed_at)}<//>${review.worker && html`<${Fact} name="Worker">${review.worker}<//>`}<${Fact} name="Attempt">${number(job.attempt)}<//><${Fact} name="Tenant">${job.tenant}<//>
      ${Object.entries(review.usage ?? {}).map(([name, value]) => html`<${Fact} name=${`Used ${name}`} key=${name}>${value}<//>`)}${Object.entries(job.labels).map(([name, value]) => html`<${Fact} name=${`Label ${name}`} key=${name}>${value || "(nothing)"}<//>`)}</dl></section>`;
}

function Said({ rejections }) {
  const last = rejections.at(-1), { reason, feedback, reviewer } = last.data ?? {};
  return html`<section aria-labelledby="said"><h2 id="said">What was said last time</h2><p class="breaks"><strong>${reason}</strong> <span class="quiet">${reviewer} <${Ago} at=${last.at} /></span></p>
    ${feedback !== null && feedback !== undefined && html`<${Value} value=${feedback} name="feedback" />`}</section>`;
}

function Files({ files, scope }) {
  const [isBusy, setBusy] = useState(false);
  const shown = useMemo(() => (files ?? []).slice(0, MOST_FILES), [files]);
  const download = async (one) => {
    setBusy(true);
    try {
      save((await post(`v1/files/${one.file}/url`, { expires_s: URL_S }, { query: { tenant: scope } })).url, one.name);
    } catch (problem) {
      toast(problem.message, "bad");
    }
    setBusy(false);
  };
  if (!shown.length) return null;
  return html`<ul class="plain lines" aria-label="Files">${shown.map((one) => html`<li key=${one.file}><strong>${one.name}</strong><span class="quiet">${one.type}, ${bytes(one.size_bytes)}</span><button type="button" class="small" disabled=${isBusy} onClick=${() => download(one)}>Download<span class="sr"> ${one.name}</span></button></li>`)}</ul>
    ${files.length > MOST_FILES && html`<p class="quiet">The first ${MOST_FILES} of ${number(files.length)}.</p>`}`;
}
