/** The page: who is signed in, where one is, and what is shown there. */
import { Component, html, render, useEffect, useState } from "./html.mjs";
import * as live from "./live.mjs";
import { get } from "./api.mjs";
import { Empty, Question, Toasts } from "./parts.mjs";
import { href, replace, tenantOf, useRoute } from "./router.mjs";
import * as session from "./session.mjs";
import { SignIn } from "./sign_in.mjs";
import { Overview } from "./overview.mjs";
import { Jobs } from "./jobs.mjs";
import { Job } from "./job.mjs";
import { Worker, Workers } from "./workers.mjs";
import { Servers } from "./servers.mjs";
import { Lanes } from "./lanes.mjs";
import { DeadLetters } from "./dead_letters.mjs";
import { Batch, Batches } from "./batches.mjs";
import { Schedule, Schedules } from "./schedules.mjs";
import { Limit, Limits } from "./limits.mjs";
import { Review, Reviews } from "./reviews.mjs";
import { Usage } from "./usage.mjs";
import { Keys } from "./keys.mjs";
import { Quarantine } from "./quarantine.mjs";

/** `role` is who sees it; `single`: it is about one tenant at a time. */
const GROUPS = [
  ["Work", [
    { path: "", name: "Overview", view: Overview },
    { path: "jobs", name: "Jobs", view: Jobs, one: Job, role: "viewer" },
    { path: "batches", name: "Batches", view: Batches, one: Batch, role: "viewer", single: true },
    { path: "schedules", name: "Schedules", view: Schedules, one: Schedule, role: "viewer", single: true },
    { path: "reviews", name: "Reviews", view: Reviews, one: Review, role: "reviewer" },
    { path: "dead-letters", name: "Dead letters", view: DeadLetters, role: "viewer" },
  ]],
  ["Machines", [
    { path: "lanes", name: "Lanes", view: Lanes },
    { path: "workers", name: "Workers", view: Workers, one: Worker },
    { path: "servers", name: "Push servers", view: Servers },
  ]],
  ["Rules", [
    { path: "limits", name: "Limits", view: Limits, one: Limit, single: true },
    { path: "usage", name: "Usage", view: Usage },
    { path: "keys", name: "API keys", view: Keys, role: "tenant-admin", single: true },
    { path: "quarantine", name: "Quarantine", view: Quarantine, role: "viewer" },
  ]],
];
const VIEWS = GROUPS.flatMap(([, views]) => views);
const CONNECTION = {
  live: ["Live", "good"], connecting: ["Connecting", "late"], reconnecting: ["Reconnecting", "late"],
  refused: ["No live updates", "bad"], off: ["Not connected", "off"],
};

function Connection() {
  const [state, set] = useState(live.state());
  useEffect(() => live.onState(set), []);
  const [words, tone] = CONNECTION[state];
  return html`<span class="state connection" role="status" data-tone=${tone}><span class="dot" aria-hidden="true"></span>${words}</span>`;
}

function Theme() {
  const [theme, set] = useState(document.documentElement.dataset.theme ?? "");
  const choose = (value) => {
    set(value);
    try {
      if (value) localStorage.setItem("switchyard.theme", value);
      else localStorage.removeItem("switchyard.theme");
    } catch { /* it lasts as long as the page */ }
    if (value) document.documentElement.dataset.theme = value;
    else delete document.documentElement.dataset.theme;
    dispatchEvent(new Event("theme"));
  };
  return html`<label class="theme"><span>Colours</span><select value=${theme} onChange=${(event) => choose(event.target.value)}>
    <option value="">As the system</option><option value="light">Light</option><option value="dark">Dark</option></select></label>`;
}

function Tenant({ route }) {
  const submit = (event) => {
    event.preventDefault();
    replace({ tenant: new FormData(event.target).get("tenant").trim(), cursor: null });
  };
  return html`<form class="tenant" onSubmit=${submit}><label for="tenant">Tenant</label>
    <span class="row tight"><input id="tenant" name="tenant" value=${tenantOf(route) ?? ""} placeholder=${session.current().home} autocomplete="off" spellcheck="false" />
    <button class="small">Show</button></span><small>A name, or * for all.</small></form>`;
}

class Guard extends Component {
  constructor() {
    super();
    this.state = { error: null };
  }

  static getDerivedStateFromError(error) {
    return { error };
  }

  componentDidUpdate(old) {
    if (old.at !== this.props.at && this.state.error) this.setState({ error: null });
  }

  render({ children }, { error }) {
    return error ? html`<div class="fault" role="alert"><strong>This view is broken.</strong><span>${String(error.message)}</span>
      <button type="button" onClick=${() => location.reload()}>Load the page again</button></div>` : children;
  }
}

function Shell({ route }) {
  const [isOpen, open] = useState(false);
  const who = session.current();
  const [path, id] = route.path;
  const view = VIEWS.find((one) => one.path === path);
  const isShown = (one) => !one.role || session.may(one.role);
  const at = location.hash;
  useEffect(() => {
    open(false);
    document.title = `${view?.name ?? "Not found"}${id ? ` ${id}` : ""} · Switchyard`;
  }, [at]);
  useEffect(() => {
    scrollTo(0, 0);
  }, [path, id]);
  const main = view && !isShown(view) ? html`<${Empty} title="You may not see this page" whole><p>It is for role ${view.role}.</p><p><a href=${href("")}>Go to the overview</a></p><//>`
    : view?.single && tenantOf(route) === "*" ? html`<${Empty} title="Choose one tenant" whole><p>${view.name} are shown for one tenant at a time. Name it below the menu.</p><//>`
    : !view || (id !== undefined && id !== "" && !view.one)
    ? html`<div class="empty"><h1>There is no such page</h1><p><a href=${href("")}>Go to the overview</a></p></div>`
    : html`<${view.one && id ? view.one : view.view} key=${`${path}/${id ?? ""}/${tenantOf(route) ?? ""}`} route=${route} id=${id} tenant=${tenantOf(route)} />`;
  return html`<a class="skip" href="#main" onClick=${(event) => { event.preventDefault(); document.getElementById("main").focus(); }}>Skip to the content</a>
    <div class="shell" data-open=${isOpen}>
    <header class="side"><div class="brand"><a href=${href("")}><span class="mark" aria-hidden="true"></span>Switchyard</a>
      <${Connection} /><button type="button" class="menu" aria-expanded=${isOpen} aria-controls="menu" onClick=${() => open(!isOpen)}>Menu</button></div>
      <div class="drawer" id="menu"><nav aria-label="Pages">${GROUPS.map(([name, views]) => html`<p id=${`nav-${name}`} key=${name}>${name}</p><ul aria-labelledby=${`nav-${name}`} key=${`${name} pages`}>${views.filter(isShown).map((one) => html`<li key=${one.path}><a href=${href(one.path)}
        aria-current=${one === view ? "page" : undefined}>${one.name}</a></li>`)}</ul>`)}</nav>
      <div class="foot">${session.isWide() && html`<${Tenant} route=${route} key=${tenantOf(route) ?? ""} />`}<${Theme} />
      <p class="who"><strong>${who.name}</strong><span>${who.roles.includes("admin") ? "admin" : who.roles.join(", ")}</span><span>Tenant ${who.tenant}</span></p>
      <button type="button" onClick=${() => session.leave()}>Sign out</button></div></div></header>
    <main id="main" tabindex="-1"><${Guard} at=${at}>${main}<//></main></div>`;
}

function App() {
  const route = useRoute();
  const [who, set] = useState(session.current());
  const [isReady, ready] = useState(!session.token());
  useEffect(() => session.onChange(() => {
    const found = session.current();
    if (found) live.start();
    else live.stop();
    set(found);
  }), []);
  useEffect(() => {
    if (!session.token()) return;
    get("v1/whoami").then(session.enter, (error) => session.leave(error.message)).finally(() => ready(true));
  }, []);
  if (!isReady) return html`<p class="loading quiet" role="status">Reading …</p>`;
  return html`${who ? html`<${Shell} route=${route} />` : html`<${SignIn} />`}<${Toasts} /><${Question} />`;
}

addEventListener("online", live.hurry);
document.addEventListener("visibilitychange", () => {
  if (!document.hidden) live.hurry();
});
render(html`<${App} />`, document.getElementById("app"));
