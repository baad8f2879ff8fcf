/** API keys: which programs may do what, a new one whose secret is shown once, another secret, and none any more. */
import { html, useEffect, useRef, useState } from "./html.mjs";
import { call, get, post } from "./api.mjs";
import { Table, useEvery } from "./paged.mjs";
import { Ago, Copy, Empty, Fault, Loading, State, confirm, toast, useLoaded } from "./parts.mjs";
import { may } from "./session.mjs";
import { number, plural } from "./words.mjs";

const AGAIN_MS = 60000, SOON_MS = 7 * 86400000;
const ROLES = [["viewer", "reads jobs, queues and files"], ["submitter", "submits and cancels jobs, stores files"], ["worker", "claims jobs and works on them"], ["reviewer", "judges results"],
  ["tenant-admin", "all of these, and keys and servers"], ["operator", "sees and holds back all tenants"], ["admin", "everything, for every tenant"]];

function KeyState({ one }) {
  if (one.expired) return html`<${State} tone="off" words="Expired" />`;
  if (one.expires_at && Date.parse(one.expires_at) - Date.now() < SOON_MS) return html`<${State} tone="late" words="Expires soon" />`;
  return html`<${State} tone="good" words="Counts" />`;
}

const bounds = (one) => [one.kinds ? `kinds ${one.kinds.join(", ")}` : "", one.rate ? `${number(one.rate.per_minute)} requests a minute` : "", one.spend ? `${number(one.spend.jobs_per_day)} jobs a day` : ""].filter(Boolean).join("; ");

export function Keys({ tenant }) {
  const [found, error, again] = useLoaded((signal) => get("v1/keys", { tenant }, { signal }), [tenant]);
  const [made, setMade] = useState(null); // the one secret that is shown, for as long as this view is
  useEvery(AGAIN_MS, again);
  const keys = found?.keys;
  const create = () => confirm({
    title: "Make a key", action: "Make it", content: html`<p>Its secret is shown once.</p><label for="name">Name</label><input id="name" name="name" required maxlength="128" autocomplete="off" />
      <fieldset><legend>What it may do</legend>${ROLES.filter(([role]) => may(role)).map(([role, words]) => html`<label class="check" key=${role}><input type="checkbox" name="role" value=${role} /> <span>${role} <span class="quiet">${words}</span></span></label>`)}</fieldset>
      <label for="kinds">Kinds of jobs <span class="quiet">(with commas; empty: any)</span></label><input id="kinds" name="kinds" autocomplete="off" spellcheck="false" />
      <label for="days">Days that it counts <span class="quiet">(empty: for ever)</span></label><input id="days" name="days" inputmode="numeric" autocomplete="off" />
      <label for="rate">Requests a minute <span class="quiet">(empty: any number)</span></label><input id="rate" name="rate" inputmode="numeric" autocomplete="off" />
      <label for="jobs">Jobs a day <span class="quiet">(empty: any number)</span></label><input id="jobs" name="jobs" inputmode="numeric" autocomplete="off" />`,
    act: async (form) => {
      const roles = form.getAll("role"), kinds = form.get("kinds").split(",").map((one) => one.trim()).filter(Boolean);
      const whole = (field, words) => {
        const text = form.get(field).trim();
        if (text && !/^[1-9]\d*$/.test(text)) throw new Error(`${words}: a whole number over 0 was expected.`);
        return text ? Number(text) : null;
      };
      if (!roles.length) throw new Error("Choose what it may do.");
      const days = whole("days", "Days"), rate = whole("rate", "Requests a minute"), jobs = whole("jobs", "Jobs a day");
      setMade(await post("v1/keys", {
        name: form.get("name").trim(), roles, ...(kinds.length ? { kinds } : {}), ...(days ? { expires_s: days * 86400 } : {}),
        ...(rate ? { rate: { per_minute: rate } } : {}), ...(jobs ? { spend: { jobs_per_day: jobs } } : {}),
      }, { query: { tenant } }));
      again();
    },
  });
  const path = (one) => `v1/keys/${encodeURIComponent(one.id)}`;
  const rotate = (one) => confirm({
    title: `Give ${one.name} another secret?`, action: "Make a new secret",
    content: html`<p>The new secret is shown once. Its name, roles and limits stay.</p><label for="overlap">Minutes that the old one still counts</label><input id="overlap" name="overlap" inputmode="numeric" defaultValue="60" required autocomplete="off" />`,
    act: async (form) => {
      const minutes = Number(form.get("overlap"));
      if (!(minutes >= 0 && minutes <= 43200)) throw new Error("0 to 43,200 minutes were expected.");
      setMade(await post(`${path(one)}/rotate`, { overlap_s: minutes * 60 }, { query: { tenant } }));
      again();
    },
  });
  const revoke = (one) => confirm({
    title: `Revoke ${one.name}?`, tone: "bad", action: "Revoke", content: html`<p>Whoever uses it is refused from now on. Its jobs, files and schedules stay. Nothing takes that back.</p>`,
    act: async () => {
      await call("DELETE", path(one), { query: { tenant } });
      toast(`${one.name} is revoked.`);
      setMade((old) => (old?.id === one.id ? null : old));
      again();
    },
  });
  return html`<div class="head"><h1>API keys</h1><div class="row"><p class="quiet" role="status">${keys ? plural(keys.length, "key") : ""}</p><button type="button" class="primary" onClick=${create}>Make a key</button></div></div>
    ${error && html`<${Fault} error=${error} again=${again} />`}
    ${made && html`<${Secret} made=${made} key=${made.key} close=${() => setMade(null)} />`}
    ${!keys ? !error && html`<${Loading} what="Reading the keys" />` : keys.length ? html`<${Table} label="API keys" columns=${[["State"], ["Key"], ["May", "minor"], ["Used", "minor"], ["Until", "minor"], ["Actions", "hidden"]]}>
      ${keys.map((one) => html`<tr key=${one.id}><td><${KeyState} one=${one} /></td><th scope="row"><span class="breaks">${one.name}</span><div class="under">${one.prefix ? html`<code>${one.prefix}…</code> ` : ""}by ${one.created_by}</div></th><td class="minor breaks">${one.roles.join(", ")}${bounds(one) && html`<div class="under">${bounds(one)}</div>`}</td>
        <td class="minor">${one.last_used_at ? html`<${Ago} at=${one.last_used_at} />` : html`<span class="quiet">never</span>`}</td><td class="minor">${one.expires_at ? html`<${Ago} at=${one.expires_at} />` : html`<span class="quiet">for ever</span>`}</td>
        <td><span class="row tight">${!one.expired && html`<button type="button" class="small" onClick=${() => rotate(one)}>Rotate<span class="sr"> ${one.name}</span></button>`}<button type="button" class="small" onClick=${() => revoke(one)}>Revoke<span class="sr"> ${one.name}</span></button></span></td></tr>`)}<//>`
    : html`<${Empty} title="There is no key"><p>A key lets a program do what its roles allow. Make the first one here, or with <code>switchyard keys create</code>.</p><//>`}`;
}

/** A secret, which nothing shows again: it is in no address and no storage, and goes with the view. */
function Secret({ made, close }) {
  const heading = useRef(null);
  useEffect(() => heading.current?.focus(), []);
  return html`<section class="secret" aria-labelledby="secret"><h2 id="secret" tabindex="-1" ref=${heading}>The secret of ${made.name}</h2><p>Copy it now: it is not shown again.</p>
    <div class="row tight"><code class="breaks">${made.key}</code><${Copy} text=${made.key} what="the secret" /></div><div><button type="button" onClick=${close}>I have stored it</button></div></section>`;
}
