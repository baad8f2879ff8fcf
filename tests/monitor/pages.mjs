/** Open pages without a browser, each with its own copy of the page's live module: `node pages.mjs STATIC`.
 *
 * The first line of the standard input is `{url, token, wishes}`; a page follows each wish. Then each line is
 * a question, and its answer is a line: `states` counts the pages by what they say of their connection,
 * `heard` gives the sequences of each page's events in the order in which they came, and its resyncs.
 */
import { createInterface } from "node:readline";

const files = process.argv[2];
const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]();
const { url, token, wishes } = JSON.parse((await lines.next()).value);

// What a browser has, of which the module reads nothing else.
globalThis.document = { baseURI: `${url}/`, hidden: false, addEventListener() {}, removeEventListener() {} };
globalThis.requestAnimationFrame = (draw) => setTimeout(draw, 16);
const session = await import(`${files}/session.mjs`);
session.keep(token);

const pages = [];
for (const [number, { wish, seq }] of wishes.entries()) {
  const live = await import(`${files}/live.mjs?page=${number}`);
  const page = { live, seqs: [], resyncs: [] };
  live.subscribe(wish, { seq, event: (event) => page.seqs.push(event.seq), resync: (reason) => page.resyncs.push(reason) });
  pages.push(page);
}
for (const { live } of pages) live.start();

for await (const question of lines) {
  let answer;
  if (question === "states") {
    answer = {};
    for (const { live } of pages) answer[live.state()] = (answer[live.state()] ?? 0) + 1;
  } else answer = pages.map(({ seqs, resyncs }) => ({ seqs, resyncs }));
  process.stdout.write(`${JSON.stringify(answer)}\n`);
}
process.exit(0);
