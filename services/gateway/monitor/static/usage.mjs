/** Usage: what was used in some days, added up by what one asks for, and as a table for a spreadsheet. */
import { html, useMemo } from "./html.mjs";
import { get } from "./api.mjs";
import { Chart } from "./charts.mjs";
import { More, Table, saveAnswer, usePages } from "./paged.mjs";
import { Empty, Fault, Loading, toast, useLoaded } from "./parts.mjs";
import { replace } from "./router.mjs";
import { may } from "./session.mjs";
import { number, plural } from "./words.mjs";

const PAGE = 200, MOST_DAYS = 92, WORD = 14;
const BY = [["day", "Day"], ["tenant", "Tenant"], ["key", "Key"], ["kind", "Kind"], ["operation", "Way"], ["engine", "Engine"], ["outcome", "Outcome"]];
const OURS = new Set(["attempts", "run_s"]); // every attempt has them, so others say more
const day = (ms) => new Date(ms).toISOString().slice(0, 10);
const DAY = /^\d{4}-\d\d-\d\d$/;
const MONEY = new Intl.NumberFormat("en", { maximumFractionDigits: 4 });

/** A decimal number with its thousands apart, exact whatever its length. */
const exact = (text) => String(text).replace(/^(-?)(\d+)/, (_, sign, whole) => sign + whole.replace(/\B(?=(\d{3})+$)/g, ","));
/** What is long may be broken anywhere; a word that is short is not. */
const wraps = (text) => (String(text ?? "").length > WORD ? "breaks" : "");
const cents = (micro) => (micro ? MONEY.format(micro / 1e6) : html`<span class="quiet">–</span>`);

export function Usage({ route, tenant }) {
  const query = route.query;
  const wish = useMemo(() => {
    const today = day(Date.now());
    const given = (name, otherwise) => (DAY.test(query.get(name) ?? "") ? query.get(name) : otherwise);
    const to = given("until", today), from = given("since", `${to.slice(0, 8)}01`);
    const by = BY.map(([name]) => name).filter((name) => query.getAll("by").includes(name));
    return { from, to, by: by.length ? by : ["day"], unit: query.get("unit") || undefined, kind: query.get("kind") || undefined, tenant };
  }, [route, tenant]);
  const list = usePages(async (cursor, signal) => {
    const found = await get("v1/usage/summary", { ...wish, limit: PAGE, cursor }, { signal });
    return [found.usage, found.cursor];
  }, (row) => JSON.stringify([...BY.map(([name]) => row[name]), row.unit]), [wish]);
  const { rows, isRead, error, again } = list;
  const [keys] = useLoaded(async (signal) => (may("tenant-admin") && tenant !== "*" ? new Map((await get("v1/keys", { tenant }, { signal })).keys.map((one) => [one.id, one.name])) : new Map()), [tenant]);
  const units = [...new Set([...rows.map((row) => row.unit), ...(wish.unit ? [wish.unit] : [])])].sort();
  const shown = (name, value) => (value === null || value === undefined || value === "" ? html`<span class="quiet">none</span>` : name === "key" && keys?.get(value) ? html`${keys.get(value)} <code>${value}</code>` : value);
  const toggle = (name) => replace({ by: wish.by.includes(name) ? wish.by.filter((one) => one !== name) : [...wish.by, name] });
  const download = async () => {
    try {
      await saveAnswer("v1/usage/summary", { ...wish, format: "csv" }, `usage-${wish.from}-${wish.to}.csv`);
    } catch (problem) {
      toast(problem.message, "bad");
    }
  };
  return html`<div class="head"><h1>Usage</h1><div class="row"><p class="quiet" role="status">${isRead ? `${plural(rows.length, "row")}${list.further ? " so far" : ""}` : ""}</p>
      <button type="button" class=${rows.length ? "primary" : ""} disabled=${!rows.length} onClick=${download}>Download CSV</button></div></div>
    <form class="filters" role="search" onSubmit=${(event) => event.preventDefault()}><label><span>From</span><input type="date" value=${wish.from} max=${wish.to} onChange=${(event) => replace({ since: event.target.value })} /></label>
      <label><span>To</span><input type="date" value=${wish.to} min=${wish.from} onChange=${(event) => replace({ until: event.target.value })} /></label>
      <label><span>Unit</span><select value=${wish.unit ?? ""} onChange=${(event) => replace({ unit: event.target.value })}><option value="">All units</option>${units.map((one) => html`<option key=${one} value=${one}>${one}</option>`)}</select></label>
      <div class="by"><span id="by">Added up by</span><div class="choices" role="group" aria-labelledby="by">${BY.map(([name, words]) => html`<button type="button" key=${name} aria-pressed=${wish.by.includes(name)} onClick=${() => toggle(name)}>${words}</button>`)}</div></div></form>
    ${error && html`<${Fault} error=${error} again=${again} />`}
    ${wish.by.length === 1 && wish.by[0] === "day" && rows.length > 0 && !list.further && html`<${Days} rows=${rows} wish=${wish} />`}
    ${!isRead ? !error && html`<${Loading} what="Adding up what was used" />` : rows.length ? html`<${Table} label="Usage" columns=${[...BY.filter(([name]) => wish.by.includes(name)).map(([, words]) => [words]), ["Unit"], ["Amount", "num"], ["Attempts", "num minor"], ["Cost in cents", "num minor"]]}>
      ${rows.map((row) => html`<tr key=${JSON.stringify([...BY.map(([name]) => row[name]), row.unit])}>${BY.filter(([name]) => wish.by.includes(name)).map(([name]) => html`<td key=${name} class=${wraps(row[name])}>${shown(name, row[name])}</td>`)}<td class=${wraps(row.unit)}>${row.unit}</td><td class="num">${exact(row.amount)}</td><td class="num minor">${number(row.attempts)}</td><td class="num minor">${cents(row.cost_micro_cents)}</td></tr>`)}<//><${More} further=${list.further} />`
    : html`<${Empty} title="Nothing was used in these days"><p>What attempts use is added up here within seconds of their end, by UTC. Choose other days, or run a job.</p><//>`}`;
}

/** One unit over the days: the one that is chosen, or the one that most attempts have reported. */
function Days({ rows, wish }) {
  const found = useMemo(() => {
    const attempts = new Map();
    for (const row of rows) attempts.set(row.unit, (attempts.get(row.unit) ?? 0) + row.attempts);
    const unit = wish.unit ?? [...attempts].sort((a, b) => OURS.has(a[0]) - OURS.has(b[0]) || b[1] - a[1] || a[0].localeCompare(b[0]))[0][0];
    const amounts = new Map(rows.filter((row) => row.unit === unit).map((row) => [row.day, Number(row.amount)]));
    const times = [];
    for (let at = Date.parse(wish.from); at <= Date.parse(wish.to) && times.length <= MOST_DAYS; at += 86400000) times.push(at / 1000);
    return { unit, times, lines: [{ name: unit, colour: "running", values: times.map((at) => amounts.get(day(at * 1000)) ?? 0), fill: true }] };
  }, [rows.length, wish]);
  if (found.times.length < 2 || found.times.length > MOST_DAYS) return null;
  return html`<${Chart} title=${`Used a day: ${found.unit}`} times=${found.times} lines=${found.lines} shown=${number} />`;
}
