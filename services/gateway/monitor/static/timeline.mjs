/** The life of a job as a picture: when it waited, each attempt, and how each ended. */
import { html } from "./html.mjs";
import { useNow } from "./parts.mjs";
import { EVENTS, clockTime, moment, span } from "./words.mjs";

const STARTS = new Set(["leased", "claimed"]);
const ATTEMPT_ENDS = { succeeded: "good", failed: "bad", dead: "bad", proposed: "late", parted: "late", cancelled: "off", expired: "off", queued: "late", scheduled: "late" };
const ENDS = new Set(["succeeded", "accepted", "dead", "cancelled", "expired", "archived"]);
const WAIT_TONE = { scheduled: "off", blocked: "off", queued: "waiting", failed: "late", proposed: "late", parted: "off", rejected: "waiting", submitted: "waiting" };
const WAIT_WORDS = { scheduled: "Not yet", blocked: "Blocked", queued: "Waiting", failed: "Until it is tried again", proposed: "In review", parted: "Its parts run", rejected: "Waiting", submitted: "Waiting" };
const MOST_ATTEMPTS = 50, ROW = 26;

/** Spans of a life: what was going on from when to when. */
export function spansOf(events, now) {
  const spans = [];
  let open = null;
  const close = (at, event) => {
    if (!open) return;
    spans.push({ ...open, until: at, end: event?.type ?? null, cause: event?.data?.cause ?? null, error: event?.data?.error ?? null, isOpen: !event });
    open = null;
  };
  for (const event of events) {
    const at = Date.parse(event.at);
    if (Number.isNaN(at)) continue;
    if (STARTS.has(event.type)) {
      close(at, event);
      open = { what: "attempt", since: at, attempt: event.data?.attempt, worker: event.data?.worker };
    } else if (ENDS.has(event.type)) close(at, event);
    else if (event.type in WAIT_TONE && !(event.type === "queued" && event.data?.cause === "reprioritised")) {
      close(at, event);
      open = { what: event.type, since: at };
    }
  }
  close(now, null);
  return spans.filter((one, place) => one.until > one.since || one.what === "attempt" || place === spans.length - 1);
}

export function Timeline({ job, events }) {
  const now = useNow();
  if (!events.length) return html`<p class="quiet">${job.state === "archived" ? "Its history was archived." : "Nothing happened yet."}</p>`;
  const all = spansOf(events, now);
  if (!all.length) return null;
  const attempts = all.filter((one) => one.what === "attempt");
  const shown = attempts.slice(-MOST_ATTEMPTS);
  const first = shown.length < attempts.length ? shown[0].since : Date.parse(events[0].at);
  const last = Math.max(...all.map((one) => one.until), first + 1);
  const waits = all.filter((one) => one.what !== "attempt" && one.until > first);
  const x = (at) => (100 * (Math.max(at, first) - first)) / (last - first);
  const rows = [{ label: "Waiting", spans: waits }, ...shown.map((one) => ({ label: `Attempt ${one.attempt ?? "?"}`, spans: [one] }))];
  const bar = (one, index) => {
    const isAttempt = one.what === "attempt";
    const tone = isAttempt ? (one.isOpen ? "running" : ATTEMPT_ENDS[one.end] ?? "off") : WAIT_TONE[one.what];
    const width = Math.max(0.6, x(one.until) - x(one.since));
    return html`<rect key=${index} x=${`${Math.min(x(one.since), 100 - width)}%`} y="5" width=${`${width}%`} height="16" rx="3" class="span" data-tone=${tone}><title>${wordsOf(one)}</title></rect>`;
  };
  return html`<div class="timeline"><div class="scale"><span>${last - first > 86400000 ? moment(new Date(first).toISOString()) : clockTime(new Date(first).toISOString())}</span><span>${span((last - first) / 1000)} in all</span><span>${clockTime(new Date(last).toISOString())}</span></div>
    ${shown.length < attempts.length && html`<p class="quiet">The last ${MOST_ATTEMPTS} of ${attempts.length} attempts.</p>`}
    <ul>${rows.map((row) => html`<li key=${row.label}><span class="label">${row.label}</span>
      <svg width="100%" height=${ROW} aria-hidden="true" focusable="false"><rect x="0" y="12" width="100%" height="2" class="rail" />${row.spans.map(bar)}</svg>
      <span class="outcome">${row.label === "Waiting" ? span(row.spans.reduce((sum, one) => sum + (one.until - Math.max(one.since, first)) / 1000, 0)) : outcome(row.spans[0])}</span></li>`)}</ul></div>`;
}

const ended = (one) => (one.end === "queued" && one.cause ? one.cause.replaceAll("_", " ") : (EVENTS[one.end] ?? one.end ?? "").toLowerCase());
const outcome = (one) => `${span((one.until - one.since) / 1000)}, ${one.isOpen ? "runs" : ended(one)}${one.error ? ` (${one.error.code})` : ""}${one.worker ? ` on ${one.worker}` : ""}`;
const wordsOf = (one) => (one.what === "attempt" ? `Attempt ${one.attempt}: ${outcome(one)}` : `${WAIT_WORDS[one.what]}: ${span((one.until - one.since) / 1000)}`);
