/** Who is signed in: a token or key of this tab alone, and what its roles allow. */
const KEY = "switchyard.token";
const listeners = new Set();
let memory = null; // where the browser keeps nothing
let who = null;
let why = "";

export function token() {
  if (memory) return memory;
  try { return sessionStorage.getItem(KEY); } catch { return null; }
}

export function keep(value) {
  memory = value;
  try { sessionStorage.setItem(KEY, value); } catch { /* kept in memory as long as the page is open */ }
}

/** Forget the token and all that was read with it. */
export function leave(reason = "") {
  memory = null;
  who = null;
  why = reason;
  try { sessionStorage.clear(); } catch { /* there was none */ }
  for (const tell of listeners) tell();
}

export const reason = () => why;
export const current = () => who;

export function enter(found) {
  who = found;
  why = "";
  for (const tell of listeners) tell();
}

export function onChange(tell) {
  listeners.add(tell);
  return () => listeners.delete(tell);
}

/** Whether the caller has the role, or one that implies it; the gateway judges each request itself. */
export const may = (role) => Boolean(who?.roles.includes(role));
/** Whether they may look at other tenants. */
export const isWide = () => may("operator") || may("admin");
