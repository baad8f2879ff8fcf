/** What can be done with a job, and the same in commands. */
import { html } from "./html.mjs";
import { BASE, post } from "./api.mjs";
import { Copy, confirm, toast } from "./parts.mjs";
import { go, href } from "./router.mjs";
import { may } from "./session.mjs";
import { ENDED } from "./words.mjs";

const scoped = (scope) => ({ query: { tenant: scope } });

export function cancel(job, scope) {
  confirm({
    title: "Cancel this job?", tone: "bad", action: "Cancel job",
    content: html`<p>${job.state === "running" ? "Its worker is asked to stop. If it does not, the job is taken away from it." : "It waits, so it ends at once."}</p>
      <label for="reason">Reason <span class="quiet">(stands in its history)</span></label><input id="reason" name="reason" maxlength="500" autocomplete="off" />`,
    act: async (form) => {
      const reason = form.get("reason").trim();
      const found = await post(`v1/jobs/${job.id}/cancel`, reason ? { reason } : {}, scoped(scope));
      toast(found.state === "cancelled" ? "The job is cancelled." : "The job was asked to stop.");
    },
  });
}

function editor(payload) {
  return html`<label for="edited">Payload</label><textarea id="edited" name="payload" rows="14" spellcheck="false" autocomplete="off">${JSON.stringify(payload, null, 2)}</textarea>`;
}

function read(form) {
  const text = form.get("payload");
  let value;
  try {
    value = JSON.parse(text);
  } catch (error) {
    throw new Error(`This is no JSON: ${error.message}`);
  }
  if (value === null || typeof value !== "object" || Array.isArray(value)) throw new Error("A payload is a JSON object, in { and }.");
  return value;
}

function priority(form) {
  const text = form.get("priority").trim();
  if (!text) return {};
  const value = Number(text);
  if (!Number.isInteger(value) || value < 0 || value > 100) throw new Error("A priority is a whole number of 0 to 100.");
  return { priority: value };
}

const priorityField = (job) => html`<label for="priority">Priority</label><input id="priority" name="priority" inputmode="numeric" defaultValue=${job.priority} autocomplete="off" />`;

export function redrive(job, scope) {
  const known = job.payload !== null;
  confirm({
    title: "Redrive this job?", action: "Redrive", wide: true,
    content: html`<p>It gets a new start with all of its attempts.${known ? " A payload that you change replaces the one that it has, and stands in its history." : ""}</p>
      ${known && editor(job.payload)}${priorityField(job)}`,
    act: async (form) => {
      const payload = known ? read(form) : null;
      const isSame = !known || JSON.stringify(payload) === JSON.stringify(job.payload);
      await post(`v1/jobs/${job.id}/redrive`, { ...(isSame ? {} : { payload }), ...priority(form) }, scoped(scope));
      toast("The job waits for its new start.");
    },
  });
}

const COPIED = ["kind", "priority", "max_attempts", "retry", "attempt_timeout_s", "queue_timeout_s", "ageing", "requires", "prefers", "isolation", "limits", "labels"];

/** The job once more, as it is or with another payload; each is a new job. */
export function Again({ job, scope }) {
  if (!ENDED.has(job.state) || job.payload === null) return null;
  const isPrimary = job.state !== "dead";
  const submit = () => confirm({
    title: "Submit it once more?", action: "Submit", wide: true,
    content: html`<p>A new job of kind ${job.kind}, with the same needs and labels. Change the payload if you like.</p>${editor(job.payload)}`,
    act: async (form) => {
      const payload = read(form);
      let made;
      if (JSON.stringify(payload) === JSON.stringify(job.payload)) made = await post(`v1/jobs/${job.id}/again`, {}, scoped(scope));
      else {
        const body = { payload };
        for (const name of COPIED) if (job[name] !== null && job[name] !== undefined) body[name] = job[name];
        made = await post("v1/jobs", body, scoped(scope));
      }
      toast("The new job is submitted.");
      go(`jobs/${made.id}`, { tenant: scope });
    },
  });
  return html`<button type="button" class=${isPrimary ? "primary" : ""} onClick=${submit}>Run again</button>`;
}

export const review_note = (job, scope) => html`<section aria-labelledby="review"><h2 id="review">Proposed result</h2>
  <p>${job.review?.reviewer ? `It is kept for ${job.review.reviewer}.` : "It waits for a reviewer."} ${may("reviewer") && html`<a href=${href(`reviews/${job.id}`, { tenant: scope })}>Judge it</a>`}</p></section>`;

export function commands(job) {
  const url = BASE.href.replace(/\/$/, "");
  const curl = [`export SWITCHYARD_URL=${url} SWITCHYARD_TOKEN=…`, `curl -s "$SWITCHYARD_URL/v1/jobs/${job.id}" -H "Authorization: Bearer $SWITCHYARD_TOKEN"`,
    `curl -s "$SWITCHYARD_URL/v1/jobs/${job.id}/events" -H "Authorization: Bearer $SWITCHYARD_TOKEN"`,
    ...(ENDED.has(job.state) ? [] : [`curl -s -X POST "$SWITCHYARD_URL/v1/jobs/${job.id}/cancel" -H "Authorization: Bearer $SWITCHYARD_TOKEN"`]),
    ...(job.state === "dead" ? [`curl -s -X POST "$SWITCHYARD_URL/v1/jobs/${job.id}/redrive" -H "Authorization: Bearer $SWITCHYARD_TOKEN"`] : [])].join("\n");
  const nats = [`nats sub "job.${job.id}.>"`, `nats stream view JOBS --subject "job.${job.id}.>"`].join("\n");
  return html`<section aria-labelledby="commands"><h2 id="commands">The same by command</h2>
    ${[["HTTP", curl], ["NATS, with the broker's address in NATS_URL", nats]].map(([name, text]) => html`<div class="command" key=${name}><div class="head"><h3>${name}</h3><${Copy} text=${text} what=${`the commands for ${name}`} /></div><pre tabindex="0" aria-label=${`Commands for ${name}`}><code>${text}</code></pre></div>`)}</section>`;
}
