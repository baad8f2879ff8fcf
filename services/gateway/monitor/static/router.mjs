/** The address of a view: everything that a view shows by is behind the `#`, so it can be kept and sent. */
import { useEffect, useState } from "./html.mjs";

export function parse(hash = location.hash) {
  const [path, query] = hash.replace(/^#\/?/, "").split("?", 2);
  return { path: path.split("/").map(decoded), query: new URLSearchParams(query ?? "") };
}

function decoded(part) {
  try { return decodeURIComponent(part); } catch { return part; }
}

/** The address of a view; parameters without a value are left out. */
export function href(path, query = {}) {
  const tenant = parse().query.get("tenant");
  const found = new URLSearchParams();
  for (const [name, value] of Object.entries({ tenant, ...query })) {
    for (const one of [value].flat()) if (one !== null && one !== undefined && one !== "") found.append(name, one);
  }
  const text = found.toString();
  return `#/${path.split("/").map(encodeURIComponent).join("/")}${text ? `?${text}` : ""}`;
}

/** Another view of the same page, in the place of this one. */
export function replace(query) {
  const here = parse();
  const merged = {};
  for (const name of here.query.keys()) merged[name] = here.query.getAll(name);
  history.replaceState(null, "", href(here.path.join("/"), { ...merged, ...query }));
  dispatchEvent(new HashChangeEvent("hashchange"));
}

export function go(path, query) {
  location.hash = href(path, query);
}

export function useRoute() {
  const [route, set] = useState(parse());
  useEffect(() => {
    const changed = () => set(parse());
    addEventListener("hashchange", changed);
    return () => removeEventListener("hashchange", changed);
  }, []);
  return route;
}

/** For which tenant the page looks, where that is not the caller's own. */
export const tenantOf = (route) => route.query.get("tenant") || undefined;
