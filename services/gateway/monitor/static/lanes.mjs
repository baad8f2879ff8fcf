/** Lanes: what waits where, who could do it, and what is paused. */
import { html, useMemo, useState } from "./html.mjs";
import { get, post } from "./api.mjs";
import { byLane, fits, needs, useWatched } from "./overview.mjs";
import { Ago, Empty, Fault, Loading, Since, State, confirm, toast, useLoaded } from "./parts.mjs";
import { href } from "./router.mjs";
import { may } from "./session.mjs";
import { number, plural } from "./words.mjs";

const MOST = 300;

export function Lanes({ tenant }) {
  const queues = useWatched("queues", tenant);
  const lanes = useMemo(() => (queues ? byLane(queues) : null), [queues]);
  const [turn, setTurn] = useState(0);
  const [controls, error, again] = useLoaded(async (signal) => (await get("v1/controls", {}, { signal })).controls, [turn]);
  const paused = new Map((controls ?? []).filter((one) => one.state === "paused").map((one) => [`${one.what} ${one.name}`, one]));
  const act = (what, name, verb) => confirm({
    title: verb === "pause" ? `Pause the ${what} ${name}?` : `Resume the ${what} ${name}?`, action: verb === "pause" ? "Pause" : "Resume",
    content: html`<p>${verb === "pause" ? "No worker gets a job of it until it is resumed, for all tenants. Attempts that run continue, and jobs are still accepted." : "Workers get its jobs again."}</p>`,
    act: async () => {
      await post(`v1/${what}s/${encodeURIComponent(name)}/${verb}`);
      toast(verb === "pause" ? `${name} is paused.` : `${name} is resumed.`);
      setTurn((old) => old + 1);
    },
  });
  const pauses = [...paused.values()].filter((one) => one.what !== "worker");
  return html`<div class="head"><h1>Lanes</h1><p class="quiet" role="status">${lanes ? `${plural(lanes.length, "lane")}, ${number(lanes.reduce((sum, one) => sum + one.waiting, 0))} waiting` : ""}</p></div>
    ${error && html`<${Fault} error=${error} again=${again} />`}
    ${pauses.length > 0 && html`<section aria-labelledby="paused"><h2 id="paused">Paused</h2><ul class="plain lines">${pauses.map((one) => html`<li key=${one.what + one.name}><${State} tone="late" words="Paused" /><strong>${one.what} ${one.name}</strong><span class="quiet">by ${one.by} <${Ago} at=${one.at} /></span>${may("admin") && html`<button type="button" class="small" onClick=${() => act(one.what, one.name, "resume")}>Resume<span class="sr"> ${one.name}</span></button>`}</li>`)}</ul></section>`}
    ${!lanes ? html`<${Loading} what="Reading the lanes" />` : lanes.length ? html`<div class="scroll" tabindex="0" role="group" aria-label="Lanes"><table class="wide-table"><thead><tr><th scope="col">Kind</th><th scope="col" class="needs">Needs</th><th scope="col" class="num">Waiting</th><th scope="col" class="num">Running</th><th scope="col" class="num minor">Later</th><th scope="col" class="minor">Longest wait</th><th scope="col">Workers that fit</th>${may("admin") && html`<th scope="col"><span class="sr">Actions</span></th>`}</tr></thead>
      <tbody>${lanes.slice(0, MOST).map((lane) => html`<tr key=${lane.lane}><th scope="row">${may("viewer") ? html`<a href=${href("jobs", { kind: lane.kind })}>${lane.kind}</a>` : lane.kind}<div class="under"><code>${lane.lane}</code></div></th><td class="needs">${needs(lane)}</td>
        <td class="num">${number(lane.waiting)}</td><td class="num">${number(lane.running + lane.cancelling)}</td><td class="num minor">${number(lane.scheduled + lane.blocked + lane.retrying + lane.review)}</td><td class="minor">${lane.waiting ? html`<${Since} at=${lane.oldest_waiting_at} />` : html`<span class="quiet">–</span>`}</td>
        <td>${paused.has(`lane ${lane.lane}`) || paused.has(`kind ${lane.kind}`) ? html`<${State} tone="late" words="Paused" />` : fits(lane)}</td>
        ${may("admin") && html`<td>${paused.has(`lane ${lane.lane}`) ? "" : html`<button type="button" class="small" onClick=${() => act("lane", lane.lane, "pause")}>Pause<span class="sr"> lane ${lane.lane}</span></button>`}</td>`}</tr>`)}</tbody></table></div>
      ${lanes.length > MOST && html`<p class="quiet">The ${MOST} with the most jobs.</p>`}`
    : html`<${Empty} title="No lane has jobs"><p>A lane is there as long as jobs of a kind, with the same needs, have not ended.</p><//>`}`;
}
