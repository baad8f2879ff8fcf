// Runs the script of a page with as much of a browser as it asks for, and writes what the page shows.
// Usage: node --experimental-websocket page.js PAGE HASH; a line of JSON per change, a line on stdin cuts.
const fs = require("node:fs"), vm = require("node:vm"), readline = require("node:readline");
const [page, hash] = process.argv.slice(2);
const [, script] = fs.readFileSync(page, "utf8").match(/<script>([^]*)<\/script>/);
const show = said => process.stdout.write(JSON.stringify(said) + "\n");
const sockets = [];

class Element {
  constructor(name) { this.name = name; this.children = []; this.text = ""; this.amount = 0; this.said = {}; }
  appendChild(child) { child.parent = this; this.children.push(child); return child; }
  prepend(child) { child.parent = this; this.children.unshift(child); }
  remove() { this.parent.children.splice(this.parent.children.indexOf(this), 1); }
  setAttribute(name, value) { this.said[name] = value; }
  get line() { let at = this; while (at && at.name !== "li") at = at.parent; return at; }
  part(name) { return this.className === name ? this : this.children.map(each => each.part(name)).find(Boolean); }
  set textContent(text) { this.text = text; this.changed(); }
  get textContent() { return this.text; }
  set value(amount) { this.amount = amount; this.changed(); }
  changed() {
    if (this.name === "connection") show({connection: this.text});
    const line = this.line, part = line && (name => line.part(name));
    if (line) show({id: part("id").text, job: part("state").text, value: part("bar").amount, said: part("said").text, changed: this.className});
  }
}
const known = {};
const document = {
  createElement: name => new Element(name),
  getElementById: name => (known[name] ??= new Element(name)),
};
class Socket extends WebSocket {
  constructor(...parameters) { super(...parameters); show({opened: parameters[0]}); sockets.push(this); }
  send(text) { show({sent: JSON.parse(text)}); super.send(text); }
}
vm.runInNewContext(script, {document, location: {hash}, WebSocket: Socket, URLSearchParams, setTimeout, JSON, fetch});
readline.createInterface({input: process.stdin}).on("line", () => sockets.at(-1).close()).on("close", () => process.exit(0));
