/** States, times and sizes in words. */

/** What each state means to somebody who waits, and its tone. */
export const STATES = {
  scheduled: ["Scheduled", "waiting"], blocked: ["Blocked", "waiting"], queued: ["Waiting", "waiting"],
  running: ["Running", "running"], retrying: ["Will retry", "late"], review: ["In review", "late"],
  cancelling: ["Cancelling", "late"], succeeded: ["Succeeded", "good"], dead: ["Failed", "bad"],
  cancelled: ["Cancelled", "off"], expired: ["Expired", "off"], archived: ["Archived", "off"],
  damaged: ["Damaged", "bad"], absent: ["Unreadable", "bad"],
};
export const ENDED = new Set(["succeeded", "dead", "cancelled", "expired", "archived"]);
export const WAITS = new Set(["scheduled", "blocked", "queued", "retrying", "review"]);
export const ACTIVE = new Set(["running", "cancelling"]);

export const stateWords = (state) => STATES[state]?.[0] ?? state;
export const stateTone = (state) => STATES[state]?.[1] ?? "off";

/** What became of a job by an event, where that alone says it. */
export const AFTER = {
  submitted: "queued", queued: "queued", scheduled: "scheduled", blocked: "blocked", leased: "running",
  claimed: "running", failed: "retrying", parted: "blocked", proposed: "review", rejected: "queued",
  cancel_requested: "cancelling", cancelled: "cancelled", succeeded: "succeeded", accepted: "succeeded",
  dead: "dead", expired: "expired", archived: "archived",
};
export const EVENTS = {
  submitted: "Submitted", scheduled: "Scheduled", blocked: "Waits for other jobs", queued: "Queued", leased: "Started",
  claimed: "Started", claim_renewed: "Lease renewed", failed: "Attempt failed", parted: "Split into parts",
  proposed: "Result proposed", review_claimed: "Review began", review_released: "Review given back",
  accepted: "Accepted", rejected: "Sent back", cancel_requested: "Asked to stop", succeeded: "Succeeded",
  cancelled: "Cancelled", expired: "Expired", dead: "Failed for good", archived: "Archived", repaired: "Repaired",
};

const WHOLE = new Intl.NumberFormat("en");
export const number = (value) => (value === null || value === undefined ? "–" : WHOLE.format(value));

const UNITS = [[86400, "d"], [3600, "h"], [60, "min"], [1, "s"]];

/** A span of seconds, in two units at most. */
export function span(seconds) {
  if (seconds === null || seconds === undefined || Number.isNaN(seconds)) return "–";
  if (seconds < 0) seconds = 0;
  if (seconds < 1) return `${Math.round(seconds * 1000)} ms`;
  if (seconds < 10) return `${seconds.toFixed(1)} s`;
  const parts = [];
  let rest = Math.round(seconds);
  for (const [size, unit] of UNITS) {
    const amount = Math.floor(rest / size);
    if (amount || parts.length) parts.push([amount, unit]);
    rest -= amount * size;
  }
  return parts.slice(0, 2).filter(([amount], place) => amount || !place).map(([amount, unit]) => `${amount} ${unit}`).join(" ");
}

export const secondsBetween = (since, until) => (Date.parse(until) - Date.parse(since)) / 1000;

export function ago(at, now = Date.now()) {
  if (!at) return "–";
  const seconds = (now - Date.parse(at)) / 1000;
  if (Math.abs(seconds) < 5) return "now";
  return seconds < 0 ? `in ${short(-seconds)}` : `${short(seconds)} ago`;
}

/** A span in its largest unit alone. */
export function short(seconds) {
  for (const [size, unit] of UNITS) if (seconds >= size) return `${Math.floor(seconds / size)} ${unit}`;
  return "0 s";
}

const MOMENT = new Intl.DateTimeFormat("en-GB", { dateStyle: "medium", timeStyle: "medium" });
const CLOCK = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", second: "2-digit" });
export const moment = (at) => (at ? MOMENT.format(new Date(at)) : "–");
export const clockTime = (at) => (at ? CLOCK.format(new Date(at)) : "–");

export function bytes(size) {
  if (size === null || size === undefined) return "–";
  for (const unit of ["B", "KiB", "MiB", "GiB"]) {
    if (size < 1024) return unit === "B" ? `${size} B` : `${size.toFixed(size < 10 ? 1 : 0)} ${unit}`;
    size /= 1024;
  }
  return `${size.toFixed(1)} TiB`;
}

/** The end of an id is what distinguishes it: its beginning is the time. */
export const shortId = (id) => (id.length > 12 ? `…${id.slice(-8)}` : id);
export const cut = (text, most = 200) => (text && text.length > most ? `${text.slice(0, most)}…` : text ?? "");
export const plural = (count, one, many = `${one}s`) => `${number(count)} ${count === 1 ? one : many}`;
