/** Prediction servers, to which jobs are pushed. */
import { html, useEffect } from "./html.mjs";
import { get, post } from "./api.mjs";
import { Ago, Bar, Empty, Fault, Loading, State, confirm, toast, useLoaded } from "./parts.mjs";
import { may } from "./session.mjs";
import { plural, span } from "./words.mjs";

const TONES = { new: ["New", "late"], online: ["Online", "good"], shaky: ["Shaky", "late"], offline: ["Offline", "bad"], stale: ["Silent", "bad"] };
const PAGE = 200, AGAIN_MS = 15000;

export function Servers({ tenant }) {
  const [found, error, again] = useLoaded((signal) => get("v1/servers", { limit: PAGE, tenant }, { signal }), [tenant]);
  useEffect(() => { // nothing is pushed of them
    const timer = setInterval(() => document.hidden || again(), AGAIN_MS);
    return () => clearInterval(timer);
  }, []);
  const may_act = may("tenant-admin") || may("operator");
  const turn = (one) => confirm({
    title: one.maintenance ? `Give ${one.name} jobs again?` : `Give ${one.name} no new jobs?`, action: one.maintenance ? "End maintenance" : "Begin maintenance",
    content: html`<p>${one.maintenance ? "It gets jobs again as soon as it is well." : "It finishes what it has, and is checked on."}</p>`,
    act: async () => {
      await post(`v1/servers/${encodeURIComponent(one.id)}/maintenance`, { enabled: !one.maintenance }, { query: { tenant: tenant === "*" ? one.tenant : tenant } });
      toast(one.maintenance ? "It gets jobs again." : "It gets no new jobs.");
      again();
    },
  });
  const state = (one) => {
    if (!one.enabled) return html`<${State} tone="off" words="Switched off" />`;
    if (one.maintenance) return html`<${State} tone="late" words="Maintenance" />`;
    const [words, tone] = TONES[one.state] ?? [one.state, "off"];
    return html`<${State} tone=${tone} words=${words} />`;
  };
  return html`<div class="head"><h1>Push servers</h1><p class="quiet" role="status">${found ? plural(found.servers.length, "server") : ""}</p></div>
    ${error && html`<${Fault} error=${error} again=${again} />`}
    ${!found ? !error && html`<${Loading} what="Reading the servers" />` : found.servers.length ? html`<div class="scroll" tabindex="0" role="group" aria-label="Push servers"><table class="wide-table"><thead><tr><th scope="col">State</th><th scope="col">Server</th><th scope="col" class="minor">Kinds</th><th scope="col">Slots</th><th scope="col" class="num minor">Answers in</th><th scope="col" class="minor">Checked</th>${may_act && html`<th scope="col"><span class="sr">Actions</span></th>`}</tr></thead>
      <tbody>${found.servers.map((one) => html`<tr key=${`${one.tenant}/${one.id}`}><td>${state(one)}</td><th scope="row"><span class="breaks">${one.name}</span><div class="under breaks">${one.endpoints.predict}</div></th><td class="minor">${one.kinds.slice(0, 4).join(", ")}${one.kinds.length > 4 ? ` and ${one.kinds.length - 4}` : ""}</td>
        <td><span class="slots"><${Bar} value=${one.slots ? (one.running ?? 0) / one.slots : 0} label=${`Slots of ${one.name} that are taken`} /><span class="percent">${one.running ?? "–"} of ${one.slots}</span></span></td><td class="num minor">${span(one.latency_s)}</td><td class="minor"><${Ago} at=${one.checked_at} />${one.last_failure && html` <span class="bad" title=${one.last_failure.message}>${one.failures ? plural(one.failures, "failure") : ""}</span>`}</td>
        ${may_act && html`<td><button type="button" class="small" onClick=${() => turn(one)}>${one.maintenance ? "End maintenance" : "Maintenance"}<span class="sr"> of ${one.name}</span></button></td>`}</tr>`)}</tbody></table></div>
      ${found.cursor && html`<p class="quiet">The first ${PAGE}.</p>`}`
    : html`<${Empty} title="No server is registered"><p>Jobs can be pushed to servers that speak HTTP. Register one with <code>switchyard servers</code> or <code>POST /v1/servers</code>.</p><//>`}`;
}
