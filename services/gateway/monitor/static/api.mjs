/** Calls of the API, relative to where the page is. */
import { leave, token } from "./session.mjs";

export const BASE = new URL(".", document.baseURI);
const TIMEOUT_MS = 30000;

/** What went wrong, in words for people. */
export class Problem extends Error {
  constructor(status, body, fallback) {
    super(body?.detail || body?.title || fallback);
    this.status = status;
    this.code = body?.code ?? "";
    this.field = body?.field ?? "";
    this.requestId = body?.request_id ?? "";
  }
}

export function address(path, query) {
  const url = new URL(path.replace(/^\//, ""), BASE);
  for (const [name, value] of Object.entries(query ?? {})) {
    for (const one of [value].flat()) {
      if (one !== undefined && one !== null && one !== "") url.searchParams.append(name, one);
    }
  }
  return url;
}

async function sent(method, path, { query, body, headers, signal, key } = {}) {
  const bearer = key ?? token();
  const given = { ...(bearer ? { Authorization: `Bearer ${bearer}` } : {}), ...(headers ?? {}) };
  if (body !== undefined) given["Content-Type"] = "application/json";
  const limit = AbortSignal.timeout(TIMEOUT_MS);
  try {
    return await fetch(address(path, query), {
      method, headers: given, body: body === undefined ? undefined : JSON.stringify(body),
      signal: signal ? AbortSignal.any([signal, limit]) : limit, credentials: "omit", cache: "no-store",
    });
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new Problem(0, null, "The gateway does not answer. It is tried again when you reload or go on.");
  }
}

export async function problemOf(answer) {
  let body = null;
  try { body = await answer.json(); } catch { /* no problem document */ }
  return new Problem(answer.status, body, `The gateway answered ${answer.status}`);
}

async function checked(answer, key) {
  if (answer.ok) return answer;
  const problem = await problemOf(answer);
  if (answer.status === 401 && key === undefined && token()) leave(problem.message);
  throw problem;
}

export async function call(method, path, options = {}) {
  const answer = await checked(await sent(method, path, options), options.key);
  return answer.status === 204 ? null : answer.json();
}

export const get = (path, query, options = {}) => call("GET", path, { ...options, query });
export const post = (path, body = {}, options = {}) => call("POST", path, { ...options, body });

/** The answer itself, for bodies that are read in pieces or not as JSON. */
export async function raw(path, query, options = {}) {
  return checked(await sent("GET", path, { ...options, query }), options.key);
}

/** The lines of an event stream as they come: `each(event, data, id)`. */
export async function stream(path, query, { signal, each }) {
  const bearer = token();
  const answer = await checked(await fetch(address(path, query), {
    headers: { Accept: "text/event-stream", ...(bearer ? { Authorization: `Bearer ${bearer}` } : {}) },
    signal, credentials: "omit", cache: "no-store",
  }));
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    rest += value;
    const blocks = rest.split(/\r?\n\r?\n/);
    rest = blocks.pop();
    for (const block of blocks) {
      let event = "message", id = null;
      const data = [];
      for (const line of block.split(/\r?\n/)) {
        if (line.startsWith("data:")) data.push(line.slice(5).replace(/^ /, ""));
        else if (line.startsWith("event:")) event = line.slice(6).trim();
        else if (line.startsWith("id:")) id = line.slice(3).trim();
      }
      if (data.length) each(event, JSON.parse(data.join("\n")), id);
    }
  }
}
