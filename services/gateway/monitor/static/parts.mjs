/** What all views are made of. Everything of a job is put in as text. */
import { html, useEffect, useLayoutEffect, useRef, useState } from "./html.mjs";
import { ago, moment, short, stateTone, stateWords } from "./words.mjs";

/** A state in a word and a colour. */
export const State = ({ state, words, tone }) =>
  html`<span class="state" data-tone=${tone ?? stateTone(state)}><span class="dot" aria-hidden="true"></span>${words ?? stateWords(state)}</span>`;

let now = Date.now();
const clocks = new Set();
setInterval(() => {
  now = Date.now();
  if (!document.hidden) for (const tick of clocks) tick(now);
}, 1000);

/** The time, every second, for what counts up. */
export function useNow() {
  const [value, set] = useState(now);
  useEffect(() => {
    clocks.add(set);
    return () => clocks.delete(set);
  }, []);
  return value;
}

export const Ago = ({ at }) => {
  const time = useNow();
  return at ? html`<time datetime=${at} title=${moment(at)}>${ago(at, time)}</time>` : html`<span class="quiet">–</span>`;
};

/** For how long something goes on. */
export const Since = ({ at }) => {
  const time = useNow();
  return html`<time datetime=${at} title=${moment(at)}>${short(Math.max(0, (time - Date.parse(at)) / 1000))}</time>`;
};

export const Bar = ({ value, label, tone = "running" }) => html`<progress class="bar" data-tone=${tone} max="1"
  value=${Math.max(0, Math.min(1, value ?? 0))} aria-label=${label}></progress>`;

/** What is said where nothing is: `whole` where the view has no other heading. */
export const Empty = ({ title, whole, children }) => html`<div class="empty">${whole ? html`<h1>${title}</h1>` : html`<h2>${title}</h2>`}<div>${children}</div></div>`;

export const Fault = ({ error, again }) => html`<div class="fault" role="alert"><strong>This could not be read.</strong>
  <span>${error.message}</span>${error.requestId && html`<span class="quiet">Request ${error.requestId}</span>`}
  ${again && html`<button type="button" onClick=${again}>Try again</button>`}</div>`;

export const Loading = ({ what = "Reading" }) => html`<p class="quiet loading" role="status">${what} …</p>`;

/** A name and a value of a list of facts. */
export const Fact = ({ name, children }) => html`<div class="fact"><dt>${name}</dt><dd>${children}</dd></div>`;

export function Copy({ text, label = "Copy", what = "" }) {
  const [done, set] = useState(false);
  const copy = async () => {
    try {
      await navigator.clipboard.writeText(text);
      set(true);
      setTimeout(() => set(false), 1500);
    } catch {
      toast("The browser does not let this page copy. Select the text instead.", "bad");
    }
  };
  return html`<button type="button" class="small" onClick=${copy} aria-label=${`${label} ${what}`.trim()}>${done ? "Copied" : label}</button>`;
}

// --- Words that come and go

let toasts = [];
let tellToasts = () => {};
let lastToast = 0;

/** Say something for some seconds; a fault stays until it is closed. */
export function toast(text, tone = "good") {
  const id = ++lastToast;
  toasts = [...toasts.slice(-3), { id, text, tone }];
  tellToasts(toasts);
  if (tone !== "bad") setTimeout(() => away(id), 6000);
}

function away(id) {
  toasts = toasts.filter((one) => one.id !== id);
  tellToasts(toasts);
}

export function Toasts() {
  const [found, set] = useState(toasts);
  useEffect(() => {
    tellToasts = set;
  }, []);
  return html`<div class="toasts" aria-live="polite">${found.map((one) => html`<div class="toast" key=${one.id} data-tone=${one.tone}>
    <span>${one.text}</span><button type="button" class="small" onClick=${() => away(one.id)} aria-label="Close this message">Close</button></div>`)}</div>`;
}

// --- Questions

let ask = () => {};
let questions = 0;

/** Ask before something is done; `content` is shown, and what its fields gather goes to `act`.
 *
 * A field begins with its `defaultValue`: a `value` would come back over what was typed when the question is drawn again.
 */
export function confirm({ title, content, action, tone, act, wide }) {
  ask({ id: ++questions, title, content, action, tone, act, wide });
}

export function Question() {
  const [asked, set] = useState(null);
  const [isBusy, setBusy] = useState(false);
  const [error, setError] = useState("");
  const dialog = useRef(null);
  useEffect(() => {
    ask = (question) => {
      setError("");
      setBusy(false);
      set(question);
    };
  }, []);
  useLayoutEffect(() => {
    if (asked) dialog.current?.showModal();
  }, [asked]);
  if (!asked) return null;
  const close = () => dialog.current?.close(); // which gives the focus back to where it was
  const submit = async (event) => {
    event.preventDefault();
    setBusy(true);
    setError("");
    try {
      await asked.act(new FormData(event.target), (text) => setError(text));
      close();
    } catch (fault) {
      setError(fault.message);
      setBusy(false);
    }
  };
  return html`<dialog ref=${dialog} class=${asked.wide ? "wide" : ""} aria-labelledby="question" onClose=${() => set(null)} key=${asked.id}>
    <form onSubmit=${submit}><h2 id="question">${asked.title}</h2><div class="content">${asked.content}</div>
    <div class="answer">${error && html`<p class="fault" role="alert">${error}</p>`}
    <div class="row end"><button type="button" onClick=${close}>Leave it</button>
    <button class="primary" data-tone=${asked.tone} disabled=${isBusy}>${isBusy ? "Working …" : asked.action}</button></div></div></form></dialog>`;
}

/** What a promise gives: `[value, error, again]`. What was there stays until the next is. */
export function useLoaded(load, on) {
  const [found, set] = useState({ value: undefined, error: null });
  const [turn, setTurn] = useState(0);
  useEffect(() => {
    const stop = new AbortController();
    load(stop.signal).then(
      (value) => !stop.signal.aborted && set({ value, error: null }),
      (error) => !stop.signal.aborted && set((old) => ({ value: old.value, error })),
    );
    return () => stop.abort();
  }, [...on, turn]);
  return [found.value, found.error, () => setTurn((old) => old + 1)];
}
