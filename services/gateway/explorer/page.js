"use strict";

// Everything of the document is put in as text: it holds words of whoever wrote the models of payloads.
const DEEPEST = 12;
const METHODS = ["get", "head", "post", "put", "patch", "delete", "options", "trace"];
let spec = {};

function element(name, text, ...inside) {
  const made = document.createElement(name);
  if (text !== undefined && text !== null) made.textContent = String(text);
  made.append(...inside);
  return made;
}

function classed(name, kind, text, ...inside) {
  const made = element(name, text, ...inside);
  made.className = kind;
  return made;
}

/** What a reference of this document stands for; {} where there is nothing. */
function resolved(value) {
  for (let steps = 0; value && typeof value === "object" && typeof value.$ref === "string"; steps += 1) {
    if (steps >= DEEPEST || !value.$ref.startsWith("#/")) return {};
    value = value.$ref.slice(2).split("/").reduce((found, part) => {
      const name = part.replaceAll("~1", "/").replaceAll("~0", "~");
      return found && Object.hasOwn(found, name) ? found[name] : undefined;
    }, spec);
  }
  return value && typeof value === "object" ? value : {};
}

/** A schema in short: the form of a value, with `?` after the names that may be left out. */
function shape(given, depth = 0, above = []) {
  if (given === true || given === undefined) return "any";
  if (given === false) return "nothing";
  const name = typeof given.$ref === "string" ? given.$ref.split("/").pop() : "";
  if (depth > DEEPEST || above.includes(name)) return name || "…";
  const schema = resolved(given);
  const seen = name ? [...above, name] : above;
  const inner = (one) => shape(one, depth + 1, seen);
  for (const key of ["anyOf", "oneOf"]) {
    if (Array.isArray(schema[key])) return [...new Set(schema[key].map(inner))].join(" | ");
  }
  if (Array.isArray(schema.allOf)) return schema.allOf.map(inner).join(" & ");
  if (schema.const !== undefined) return JSON.stringify(schema.const);
  if (Array.isArray(schema.enum)) return schema.enum.map((one) => JSON.stringify(one)).join(" | ");
  const types = [schema.type ?? (schema.properties ? "object" : "any")].flat();
  return types.map((type) => {
    if (type === "array") return `[${inner(schema.items)}]`;
    if (type !== "object") return type + bounds(schema, type);
    const fields = Object.entries(schema.properties ?? {});
    const rest = schema.additionalProperties;
    if (!fields.length) return rest && typeof rest === "object" ? `{name: ${inner(rest)}}` : "object";
    const must = new Set(schema.required ?? []);
    const pad = "  ".repeat(depth + 1);
    const lines = fields.map(([field, value]) => `${pad}${field}${must.has(field) ? "" : "?"}: ${inner(value)}`);
    return `{\n${lines.join(",\n")}\n${"  ".repeat(depth)}}`;
  }).join(" | ");
}

function bounds(schema, type) {
  const limits = [];
  if (schema.format) limits.push(schema.format);
  if (schema.pattern) limits.push(`/${schema.pattern}/`);
  if (schema.minimum !== undefined) limits.push(`≥ ${schema.minimum}`);
  if (schema.exclusiveMinimum !== undefined) limits.push(`> ${schema.exclusiveMinimum}`);
  if (schema.maximum !== undefined) limits.push(`≤ ${schema.maximum}`);
  if (type === "string" && schema.maxLength !== undefined) limits.push(`≤ ${schema.maxLength} characters`);
  return limits.length ? ` (${limits.join(", ")})` : "";
}

function table(head, rows) {
  const body = element("tbody");
  for (const cells of rows) {
    body.append(element("tr", null, ...cells.map((cell) => (cell instanceof Node ? element("td", null, cell) : element("td", cell)))));
  }
  return element("table", null, element("thead", null, element("tr", null, ...head.map((one) => element("th", one)))), body);
}

function contents(of) {
  return Object.entries(of.content ?? {}).flatMap(([media, value]) => [
    classed("div", "media", null, element("code", media)),
    ...[value.schema, value["x-itemSchema"]].filter((one) => one !== undefined).map((one) => element("pre", shape(one))),
  ]);
}

function short(value) {
  if (Array.isArray(value)) return value.map(short).join(", ") || "none";
  return typeof value === "object" ? JSON.stringify(value) : String(value);
}

/** Extensions such as roles and codes of errors, as they stand in the document. */
function extensions(operation) {
  return Object.entries(operation)
    .filter(([name]) => name.startsWith("x-"))
    .map(([name, value]) => [name.slice(2).replaceAll("-", " "), element("code", short(value))]);
}

function inside(item, operation) {
  const made = classed("div", "inside");
  if (operation.description) made.append(element("p", operation.description));
  const facts = extensions(operation);
  const security = operation.security ?? spec.security;
  if (Array.isArray(security)) {
    facts.push(["opened by", [...new Set(security.map((one) => Object.keys(one).join(" and ")))].join(", ") || "nothing is needed"]);
  }
  if (facts.length) made.append(table(["", ""], facts));
  const parameters = [...(item.parameters ?? []), ...(operation.parameters ?? [])].map(resolved);
  if (parameters.length) {
    made.append(element("h3", "Parameters"), table(["name", "in", "form", ""], parameters.map((one) => [
      element("code", one.name + (one.required ? "" : "?")), one.in, element("code", shape(one.schema)), one.description ?? "",
    ])));
  }
  if (operation.requestBody) {
    const body = resolved(operation.requestBody);
    made.append(element("h3", body.required ? "Body" : "Body, which may be left out"), ...contents(body));
  }
  made.append(element("h3", "Answers"));
  for (const [status, given] of Object.entries(operation.responses ?? {})) {
    const answer = resolved(given);
    const headers = Object.keys(answer.headers ?? {});
    made.append(element("p", null, element("strong", status), ` ${answer.description ?? ""}`));
    if (headers.length) made.append(element("p", `Headers: ${headers.join(", ")}`));
    made.append(...contents(answer));
  }
  return made;
}

function operationView(path, item, method) {
  const operation = item[method];
  const summary = element("summary", null, classed("span", "method", method.toUpperCase()), element("code", path), classed("span", "what", operation.summary ?? ""));
  const made = element("details", null, summary);
  made.id = `${method} ${path}`;
  made.dataset.words = `${method} ${path} ${operation.summary ?? ""}`.toLowerCase();
  // Put together when it is first looked at: there are many.
  made.addEventListener("toggle", () => {
    if (made.open && made.children.length === 1) made.append(inside(item, operation));
  });
  return made;
}

function show() {
  document.getElementById("title").textContent = `${spec.info?.title ?? "Switchyard API"} ${spec.info?.version ?? ""}`;
  document.getElementById("about").textContent = spec.info?.description ?? "";
  const groups = new Map();
  for (const [path, given] of Object.entries(spec.paths ?? {})) {
    const item = resolved(given);
    for (const method of METHODS.filter((one) => item[one])) {
      const group = item[method].tags?.[0] ?? path.split("/").slice(0, 3).join("/");
      if (!groups.has(group)) groups.set(group, []);
      groups.get(group).push(operationView(path, item, method));
    }
  }
  const all = [...groups].map(([name, views]) => element("section", null, element("h2", name), ...views));
  document.getElementById("routes").replaceChildren(...all);
  filter();
  const named = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (named instanceof HTMLDetailsElement) {
    named.open = true;
    named.scrollIntoView();
  }
}

function filter() {
  const wanted = document.getElementById("filter").value.trim().toLowerCase();
  for (const section of document.querySelectorAll("section")) {
    const views = [...section.querySelectorAll("details")];
    for (const view of views) view.hidden = !view.dataset.words.includes(wanted);
    section.hidden = views.every((view) => view.hidden);
  }
}

async function read() {
  const state = document.getElementById("state");
  const token = document.getElementById("token").value.trim();
  state.textContent = "Reading …";
  try {
    const headers = token ? { Authorization: `Bearer ${token}` } : {};
    const answer = await fetch("openapi.json", { headers, credentials: "omit", redirect: "error" });
    const found = await answer.json();
    if (!answer.ok) {
      state.textContent = `/openapi.json: ${answer.status} ${found.detail ?? ""}`;
      return;
    }
    spec = found;
    show();
    state.textContent = `${document.querySelectorAll("details").length} routes`;
  } catch (error) {
    state.textContent = `/openapi.json cannot be read: ${error.message}`;
  }
}

document.getElementById("open").addEventListener("submit", (event) => {
  event.preventDefault();
  read();
});
document.getElementById("filter").addEventListener("input", filter);
read();
