/** The one live connection of the page: subscriptions and watched states that outlive a broken connection.
 *
 * The token travels in the first message. Each subscription has its own cursor, so what was missed comes
 * first after a reconnect, and an event that was seen already is passed over.
 */
import { BASE } from "./api.mjs";
import { current, leave, token } from "./session.mjs";

const FIRST_MS = 500, MOST_MS = 15000, PING_MS = 25000, SILENT_MS = 60000;
const open = new Map(); // by id: subscriptions and watches
const listeners = new Set();
let socket = null, timer = null, pinger = null, tries = 0, heard = 0, log = "", status = "off", count = 0;

export const state = () => status;

export function onState(tell) {
  listeners.add(tell);
  return () => listeners.delete(tell);
}

function become(value) {
  if (value === status) return;
  status = value;
  for (const tell of listeners) tell(value);
}

export function start() {
  if (!socket && !timer) connect();
}

export function stop() {
  clearTimeout(timer);
  clearInterval(pinger);
  timer = null;
  open.clear();
  const old = socket;
  socket = null;
  old?.close(1000);
  tries = 0;
  become("off");
}

/** Every event of some jobs: `{jobs}`, `{all}`, `{kinds}` or `{tenants}` with what else the protocol has.
 *
 * `seq` is that of the last event which is known already: what comes after it is missed neither where the log's name,
 * which a cursor has, becomes known only later. What is answered ends it, and says up to where it went.
 */
export function subscribe(wish, { event, progress, resync, preview, seq } = {}) {
  const id = `s${++count}`;
  open.set(id, { id, type: "subscribe", wish, event, progress, resync, preview, seq, after: null });
  ask(id);
  return () => drop(id);
}

/** A state and its changes: `tell(items)` with a Map by id, at most once a frame. */
export function watch(what, filter, tell) {
  const id = `w${++count}`;
  open.set(id, { id, type: "watch", wish: { what, ...filter }, tell, items: new Map(), after: null, due: false });
  ask(id);
  return () => drop(id);
}

/** The last event that was known of what is left, 0 where it never began. */
function drop(id) {
  const one = open.get(id);
  if (!open.delete(id)) return 0;
  if (socket?.readyState === WebSocket.OPEN && log) send({ type: "unsubscribe", id });
  return one.after ? seqOf(one.after) : 0;
}

function ask(id) {
  const one = open.get(id);
  if (one && log && socket?.readyState === WebSocket.OPEN) {
    if (!one.after && one.seq) one.after = `${log}:${one.seq}`;
    send({ ...one.wish, type: one.type, id, ...(one.after ? { after: one.after } : {}) });
  }
}

const send = (message) => socket.send(JSON.stringify(message));

function connect() {
  timer = null;
  const bearer = token();
  if (!bearer) return become("off");
  become(tries ? "reconnecting" : "connecting");
  const url = new URL("v1/ws", BASE);
  url.protocol = url.protocol.replace("http", "ws");
  const mine = socket = new WebSocket(url, "switchyard.v1");
  mine.binaryType = "arraybuffer";
  log = "";
  heard = Date.now();
  mine.onopen = () => send({ type: "auth", token: bearer });
  mine.onmessage = ({ data }) => {
    if (mine !== socket) return;
    heard = Date.now();
    if (typeof data === "string") take(JSON.parse(data));
    else showPreview(data);
  };
  mine.onclose = ({ code, reason }) => {
    if (mine === socket) lost(code, reason);
  };
  clearInterval(pinger);
  pinger = setInterval(() => {
    if (mine !== socket) return;
    if (Date.now() - heard > SILENT_MS) return mine.close(); // nobody is at the other end
    if (mine.readyState === WebSocket.OPEN && log) send({ type: "ping" });
  }, PING_MS);
}

function lost(code, reason) {
  socket = null;
  log = "";
  clearInterval(pinger);
  if (code === 4401) return leave(`You were signed out: ${reason || "the token does not count any more"}`);
  if (code === 4403) return become("refused");
  become("reconnecting");
  const most = Math.min(MOST_MS, FIRST_MS * 2 ** tries);
  tries += 1;
  timer = setTimeout(connect, code === 4429 ? MOST_MS : most / 2 + Math.random() * most / 2);
}

/** Try at once, as when the computer has woken up. */
export function hurry() {
  if (timer) {
    clearTimeout(timer);
    connect();
  }
}

const seqOf = (cursor) => Number(cursor.split(":")[1] ?? 0);
const logOf = (cursor) => cursor.split(":")[0];

function take(message) {
  switch (message.type) {
    case "hello":
      log = message.stream;
      tries = 0;
      become("live");
      for (const id of open.keys()) ask(id);
      return;
    case "subscribed": {
      const one = open.get(message.id);
      if (one && !one.after) one.after = message.cursor;
      return;
    }
    case "event":
      for (const id of message.ids) {
        const one = open.get(id);
        if (!one) continue;
        const seen = one.after;
        if (seen && logOf(seen) === logOf(message.cursor) && seqOf(message.cursor) <= seqOf(seen)) continue;
        one.after = message.cursor;
        one.event?.(message.event);
      }
      return;
    case "caught_up":
    case "pong":
      for (const one of message.id ? [open.get(message.id)] : open.values()) {
        if (one?.type === "subscribe" && message.cursor && ahead(message.cursor, one.after)) one.after = message.cursor;
      }
      return;
    case "progress":
      for (const id of message.ids) open.get(id)?.progress?.(message.job_id, message.progress);
      return;
    case "resync": {
      const one = open.get(message.id);
      if (one) {
        one.after = message.head;
        one.resync?.(message.reason);
      }
      return;
    }
    case "error":
      return refused(message);
    case "snapshot":
    case "changes":
      return state_of(message);
    default:
  }
}

const PASSING = new Set(["unavailable", "rate_limited", "too_many_filters"]);

/** A subscription that was not taken: without what was too much, later, or not at all. */
function refused({ id, code }) {
  const one = open.get(id);
  if (!one) return;
  if (code === "too_many_previews") {
    one.wish = { ...one.wish, previews: false };
    ask(id);
  } else if (code === "bad_cursor") {
    one.after = one.seq = null;
    ask(id);
    one.resync?.(code);
  } else if (PASSING.has(code)) setTimeout(() => ask(id), 2000 + Math.random() * 3000);
}

const ahead = (cursor, of) => !of || logOf(of) !== logOf(cursor) || seqOf(cursor) > seqOf(of);

function state_of(message) {
  const one = open.get(message.id);
  if (!one) return;
  if (message.type === "snapshot") one.items = new Map(message.items.map((item) => [item.id, item]));
  for (const item of [...(message.added ?? []), ...(message.changed ?? [])]) one.items.set(item.id, item);
  for (const id of message.removed ?? []) one.items.delete(id);
  one.after = message.revision ?? null;
  if (!message.revision || one.due) return; // more of it follows
  one.due = true;
  requestAnimationFrame(() => {
    one.due = false;
    if (open.get(one.id) === one) one.tell(new Map(one.items));
  });
}

function showPreview(frame) {
  const length = new DataView(frame).getUint32(0);
  const header = JSON.parse(new TextDecoder().decode(new Uint8Array(frame, 4, length)));
  const image = new Blob([new Uint8Array(frame, 4 + length)], { type: header.media_type });
  for (const one of open.values()) if (one.wish.jobs?.includes(header.job_id)) one.preview?.(header, image);
}

const QUICK = 100; // events a second beyond which their number says nothing more

/** Told whenever jobs come, start or end, at most every `every_ms`, however many there are. */
export function pulse(every_ms, tenant, tell) {
  let last = 0, waiting = null, seen = 0, since = Date.now(), quiet = null, leaveEvents = null, over = false;
  const beat = () => {
    if (waiting || over) return;
    waiting = setTimeout(() => {
      waiting = null;
      last = Date.now();
      tell();
    }, Math.max(0, last + every_ms - Date.now()));
  };
  const listen = () => {
    seen = 0;
    leaveEvents = subscribe(
      { ...(tenant === "*" ? { all: true } : { tenants: [tenant ?? current().tenant] }), events: ["leased", "claimed", "cancelled", "expired"], progress: false },
      { event: () => {
        if (Date.now() - since > 1000) [since, seen] = [Date.now(), 0];
        // The states of the lanes change all the time then, and say it in less.
        if (++seen > QUICK && leaveEvents) {
          leaveEvents();
          leaveEvents = null;
          quiet = setTimeout(listen, 10000);
        }
        beat();
      }, resync: beat },
    );
  };
  listen();
  const leaveQueues = watch("queues", tenant ? { tenant } : {}, beat);
  const looked = () => document.hidden || beat();
  document.addEventListener("visibilitychange", looked);
  return () => {
    over = true;
    document.removeEventListener("visibilitychange", looked);
    clearTimeout(waiting);
    clearTimeout(quiet);
    leaveEvents?.();
    leaveQueues();
  };
}
