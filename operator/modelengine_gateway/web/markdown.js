// Markdown as models write it, into blocks of plain data {type, start, ...}. Pure; prose.js shows them. HTML is text here.
//
// `start` is where a block begins: a text that has grown needs parsing only from the start of its last block.

import { inline } from "./inline.js";

// Each takes linear time on a line, whatever stands there.
const FENCE = /^( {0,3})(`{3,}(?=[^`]*$)|~{3,})(.*)$/;
const HEADING = /^ {0,3}(#{1,6}) (.{0,500})$/;
const RULE = /^ {0,3}([-*_])(\s*\1){2,}\s*$/;
const QUOTE = /^ {0,3}> ?/;
const ITEM = /^( {0,3})([-*+]|\d{1,9}[.)])( +|$)/;
const DIVIDER = /^[-:| ]{1,500}$/;
const MAX_DEPTH = 8;

const startsBlock = (line) => [FENCE, HEADING, RULE, QUOTE, ITEM].some((pattern) => pattern.test(line));
const unindent = (line, width) => line.slice(Math.min(width, line.search(/\S|$/)));

/** The blocks of a text, from `offset` on. */
export function parse(text, offset = 0) {
  let start = offset;
  const lines = text.slice(offset).split("\n").map((line) => {
    const one = { text: line.replace(/\r$/, "").replaceAll("\t", "    "), start };
    start += line.length + 1;
    return one;
  });
  return blocks(lines, 0);
}

function blocks(lines, depth) {
  const found = [];
  for (let at = 0; at < lines.length; ) {
    if (lines[at].text.trim()) {
      const [block, next] = blockAt(lines, at, depth);
      found.push({ ...block, start: lines[at].start });
      at = next;
    } else at += 1;
  }
  return found;
}

/** The block that begins at this line, and the line after it. */
function blockAt(lines, at, depth) {
  const { text } = lines[at];
  const fence = text.match(FENCE);
  const heading = text.match(HEADING);
  if (fence) return code(lines, at, fence);
  if (heading) return [{ type: "heading", level: heading[1].length, inline: inline(heading[2].replace(/ #+ *$/, "").trim()) }, at + 1];
  if (RULE.test(text)) return [{ type: "rule" }, at + 1];
  if (QUOTE.test(text) && depth < MAX_DEPTH) return quote(lines, at, depth);
  if (ITEM.test(text) && depth < MAX_DEPTH) return list(lines, at, depth);
  return isTable(lines, at) ? table(lines, at) : paragraph(lines, at);
}

function code(lines, at, [, indent, marks, info]) {
  const isEnd = ({ text }) => text.trim().startsWith(marks) && !text.trim().replaceAll(marks[0], "");
  const end = indexFrom(lines, at + 1, isEnd);
  const text = lines.slice(at + 1, end).map((line) => unindent(line.text, indent.length)).join("\n");
  return [{ type: "code", language: info.trim().split(" ")[0], text }, end + 1];
}

function quote(lines, at, depth) {
  const end = indexFrom(lines, at, ({ text }) => !QUOTE.test(text));
  const inner = lines.slice(at, end).map((line) => ({ ...line, text: line.text.replace(QUOTE, "") }));
  return [{ type: "quote", blocks: blocks(inner, depth + 1) }, end];
}

function list(lines, at, depth) {
  const [, , mark] = lines[at].text.match(ITEM);
  const isSibling = (line) => line?.text.match(ITEM)?.[2].at(-1) === mark.at(-1) && !RULE.test(line.text);
  const items = [];
  let hasGaps = false;
  while (isSibling(lines[at])) {
    const inner = itemLines(lines, at);
    items.push(blocks(inner, depth + 1));
    at += inner.length;
    hasGaps ||= !lines[at - 1].text.trim() && isSibling(lines[at]);
  }
  const isLoose = hasGaps || items.some((item) => item.filter((block) => block.type === "paragraph").length > 1);
  return [{ type: "list", number: /\d/.test(mark) ? parseInt(mark, 10) : null, isLoose, items }, at];
}

/** The lines of one item, less its indent: those indented with it, and those that go on in its last paragraph. */
function itemLines(lines, at) {
  const [all, indent, mark, gap] = lines[at].text.match(ITEM);
  const width = gap.length > 4 ? indent.length + mark.length + 1 : all.length;
  // Models indent by two where the mark is wider, too.
  const end = indexFrom(lines, at + 1, ({ text }, i) => {
    const goesOn = lines[i - 1].text.trim() && !startsBlock(text);
    return text.trim() && text.search(/\S/) < indent.length + 2 && !goesOn;
  });
  const rest = lines.slice(at + 1, end).map((line) => ({ ...line, text: unindent(line.text, width) }));
  return [{ ...lines[at], text: lines[at].text.slice(width) }, ...rest];
}

function isTable(lines, at) {
  const [head, divider] = [lines[at].text, lines[at + 1]?.text ?? ""];
  if (!head.includes("|") || !DIVIDER.test(divider)) return false;
  return cells(divider).every((cell) => /^:?-+:?$/.test(cell)) && cells(divider).length === cells(head).length;
}

function table(lines, at) {
  const align = cells(lines[at + 1].text).map((cell) => (!cell.endsWith(":") ? "start" : cell.startsWith(":") ? "center" : "end"));
  const end = indexFrom(lines, at + 2, ({ text }) => !text.includes("|"));
  const row = ({ text }) => align.map((_, i) => inline(cells(text)[i] ?? ""));
  return [{ type: "table", align, head: row(lines[at]), rows: lines.slice(at + 2, end).map(row) }, end];
}

function cells(line) {
  const inner = line.trim().replace(/^\|/, "").replace(/\|$/, "");
  return inner.split(/(?<!\\)\|/).map((cell) => cell.trim().replaceAll("\\|", "|"));
}

function paragraph(lines, at) {
  const end = indexFrom(lines, at + 1, ({ text }, i) => !text.trim() || startsBlock(text) || isTable(lines, i));
  return [{ type: "paragraph", inline: inline(lines.slice(at, end).map((line) => line.text.trimStart()).join("\n")) }, end];
}

function indexFrom(lines, at, isIt) {
  while (at < lines.length && !isIt(lines[at], at)) at += 1;
  return at;
}
