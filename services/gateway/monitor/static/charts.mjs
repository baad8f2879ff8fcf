/** Pictures over time by uPlot, each with its figures as a table for who cannot see it. */
import uPlot from "./uplot.mjs";
import { html, useEffect, useRef } from "./html.mjs";
import { clockTime, moment, span } from "./words.mjs";

const HEIGHT = 180, SPARSE = 24;
const HOURS = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit" });
const DAYS = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short" });

/** Times at the axis; the first of a day says which day it is. */
function ticksOf(_, ticks, __, ___, step) {
  let day = "";
  return ticks.map((one) => {
    const at = new Date(one * 1000), today = DAYS.format(at);
    const words = step >= 86400 ? today : day && day !== today ? `${HOURS.format(at)}\n${today}` : HOURS.format(at);
    day = today;
    return words;
  });
}

/** What a colour of the style is now, as a canvas needs it. */
function colour(name) {
  const probe = document.createElement("span");
  probe.style.color = `var(--${name})`;
  document.body.append(probe);
  const found = getComputedStyle(probe).color;
  probe.remove();
  return found;
}

const faint = (value, share) => value.replace(/^rgb\((.*)\)$/, `rgba($1, ${share})`);

/** Lines over time: `lines` are `{name, colour, values, fill, dash}`, `shown` puts a value into words. */
export function Chart({ title, times, lines, shown = String, note }) {
  const holder = useRef(null);
  const drawn = useRef(null);
  const words = useRef(shown);
  words.current = shown;
  useEffect(() => {
    const make = () => {
      drawn.current?.destroy();
      if (!holder.current) return;
      const quiet = colour("quiet"), line = colour("line");
      const axis = { stroke: quiet, grid: { stroke: line, width: 1 }, ticks: { stroke: line, width: 1 }, font: "12px system-ui, sans-serif" };
      drawn.current = new uPlot({
        width: holder.current.clientWidth || 300, height: HEIGHT, legend: { show: false },
        cursor: { y: false, points: { size: 6 } }, padding: [8, 8, 0, 0],
        scales: { y: { range: (_, least, most) => [0, most > 0 ? most * 1.1 : 1] } },
        axes: [{ ...axis, space: 64, values: ticksOf }, { ...axis, size: 62, values: (_, ticks) => ticks.map((one) => words.current(one)) }],
        series: [{}, ...lines.map((one) => {
          const stroke = colour(one.colour);
          return { label: one.name, stroke, width: 1.75, dash: one.dash, spanGaps: true, fill: one.fill ? faint(stroke, 0.12) : undefined, points: { show: one.values.filter((value) => value !== null).length <= SPARSE, size: 5, fill: stroke } };
        })],
        hooks: { setCursor: [(plot) => tell(plot.cursor.idx)] },
      }, [times, ...lines.map((one) => one.values)], holder.current);
    };
    const tip = document.createElement("div");
    const tell = (place) => {
      tip.hidden = place === null || place === undefined;
      if (tip.hidden) return;
      const at = new Date(times[place] * 1000).toISOString();
      tip.textContent = [clockTime(at), ...lines.map((one) => `${one.name} ${one.values[place] === null ? "–" : words.current(one.values[place])}`)].join("  ·  ");
    };
    tip.className = "tip";
    tip.hidden = true;
    make();
    holder.current?.after(tip);
    let width = holder.current?.clientWidth;
    const sized = new ResizeObserver(() => {
      if (holder.current && holder.current.clientWidth !== width) {
        width = holder.current.clientWidth;
        drawn.current?.setSize({ width, height: HEIGHT });
      }
    });
    sized.observe(holder.current);
    const dark = matchMedia("(prefers-color-scheme: dark)");
    dark.addEventListener("change", make);
    addEventListener("theme", make);
    return () => {
      sized.disconnect();
      dark.removeEventListener("change", make);
      removeEventListener("theme", make);
      tip.remove();
      drawn.current?.destroy();
      drawn.current = null;
    };
  }, [times, lines]);
  const isEmpty = lines.every((one) => one.values.every((value) => !value));
  const some = times.length > 40 ? times.filter((_, place) => place >= times.length - 40) : times;
  return html`<figure class="chart"><figcaption><h3>${title}</h3><span class="keys">${lines.map((one) => html`<span class="key">
      <span class="swatch" data-colour=${one.colour} aria-hidden="true"></span>${one.name}</span>`)}</span></figcaption>
    <div class="plot"><div ref=${holder} aria-hidden="true"></div>${isEmpty && html`<p class="nothing">${note ?? "Nothing in this time"}</p>`}</div>
    <details><summary>As a table</summary><div class="scroll" tabindex="0" role="group" aria-label=${`${title} as a table`}><table><thead><tr><th scope="col">From</th>${lines.map((one) => html`<th scope="col">${one.name}</th>`)}</tr></thead>
      <tbody>${some.map((time, index) => {
        const place = times.length - some.length + index;
        return html`<tr><th scope="row">${moment(new Date(time * 1000).toISOString())}</th>${lines.map((one) => html`<td>${one.values[place] === null ? "–" : shown(one.values[place])}</td>`)}</tr>`;
      })}</tbody></table></div></details></figure>`;
}

export const spans = (value) => (value === 0 ? "0" : span(value));
