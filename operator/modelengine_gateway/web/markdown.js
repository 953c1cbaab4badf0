// Markdown as models write it, as plain data. Pure; prose.js shows it. What is no markup stays text, and so does HTML.
//
// Blocks are {type, line, ...}, where `line` is the number of its first: a text that has grown needs parsing only from
// its last block on. Inside are strings and {type: "strong" | "em" | "del" | "code" | "link" | "break", ...}.

// Each takes linear time on a line, whatever stands there.
const FENCE = /^( {0,3})(`{3,}(?=[^`]*$)|~{3,})(.*)$/;
const HEADING = /^ {0,3}(#{1,6}) (.{0,500})$/;
const RULE = /^ {0,3}([-*_])(\s*\1){2,}\s*$/;
const QUOTE = /^ {0,3}> ?/;
const ITEM = /^( {0,3})([-*+]|\d{1,9}[.)])( +|$)/;
const DIVIDER = /^[-:| ]{1,500}$/;
// Inside a line, every stretch is bounded to the same end.
const MARKUP = new RegExp(
  [
    /\\(?<escaped>[!-/:-@[-`{-~])/,
    /(?<!`)(?<ticks>`+)(?!`)(?<code>[^]{1,4000}?)(?<!`)\k<ticks>(?!`)/,
    /!?\[(?<label>(?:[^[\]\\]|\\.|\[[^[\]]{0,99}\]){0,999})\]\(\s?<?(?<target>(?:[^\s()<>]|\([^\s()]{0,999}\)){1,1999})>?(?:\s"[^"]{0,999}")?\)/,
    /\*\*(?=\S)(?<strong>[^]{1,3000}?)(?<!\s)\*\*(?!\*)/,
    /\*(?![\s*])(?<em>(?:[^*]|\*\*){1,3000}?)(?<!\s)\*(?!\*)/,
    /(?<![\p{L}\p{N}_])_(?![\s_])(?<italic>[^_]{1,3000}?)(?<!\s)_(?![\p{L}\p{N}_])/,
    /~~(?=\S)(?<del>[^]{1,3000}?)(?<!\s)~~/,
    /(?<![\p{L}\p{N}])(?<url>https?:\/\/[^\s<>"'`\u3000-\u303f\uff00-\uffef]{1,1999})/,
    /(?<end> {2,}\n)/,
  ].map(({ source }) => source).join("|"),
  "gu",
);
const MAX_DEPTH = 8;

const startsBlock = (line) => [FENCE, HEADING, RULE, QUOTE, ITEM].some((pattern) => pattern.test(line));
const unindent = (line, width) => line.slice(Math.min(width, line.search(/\S|$/)));

/** The blocks of a text, from line number `from` on. */
export function parse(text, from = 0) {
  const lines = text.split("\n").slice(from).map((line) => line.replace("\r", "").replaceAll("\t", "    "));
  return blocks(lines, 0).map((block) => ({ ...block, line: block.line + from }));
}

function blocks(lines, depth) {
  const found = [];
  for (let at = 0; at < lines.length; ) {
    if (lines[at].trim()) {
      const [block, next] = blockAt(lines, at, depth);
      found.push({ ...block, line: at });
      at = next;
    } else at += 1;
  }
  return found;
}

/** The block that begins at this line, and the line after it. */
function blockAt(lines, at, depth) {
  const text = lines[at];
  const [fence, heading] = [text.match(FENCE), text.match(HEADING)];
  if (fence) return code(lines, at, fence);
  if (heading) return [{ type: "heading", level: heading[1].length, inline: inline(heading[2].replace(/ #+ *$/, "").trim()) }, at + 1];
  if (RULE.test(text)) return [{ type: "rule" }, at + 1];
  if (QUOTE.test(text) && depth < MAX_DEPTH) return quote(lines, at, depth);
  if (ITEM.test(text) && depth < MAX_DEPTH) return list(lines, at, depth);
  return isTable(lines, at) ? table(lines, at) : paragraph(lines, at);
}

function code(lines, at, [, indent, marks, info]) {
  const isEnd = (text) => text.trim().startsWith(marks) && !text.trim().replaceAll(marks[0], "");
  const end = indexFrom(lines, at + 1, isEnd);
  const text = lines.slice(at + 1, end).map((line) => unindent(line, indent.length)).join("\n");
  return [{ type: "code", language: info.trim().split(" ")[0], text }, end + 1];
}

function quote(lines, at, depth) {
  const end = indexFrom(lines, at, (line) => !QUOTE.test(line));
  const inner = lines.slice(at, end).map((line) => line.replace(QUOTE, ""));
  return [{ type: "quote", blocks: blocks(inner, depth + 1) }, end];
}

function list(lines, at, depth) {
  const mark = lines[at].match(ITEM)[2];
  const isSibling = (line) => line?.match(ITEM)?.[2].at(-1) === mark.at(-1) && !RULE.test(line);
  const items = [];
  let isLoose = false;
  while (isSibling(lines[at])) {
    const inner = itemLines(lines, at);
    items.push(blocks(inner, depth + 1));
    at += inner.length;
    isLoose ||= (!lines[at - 1].trim() && isSibling(lines[at])) || items.at(-1)[1]?.type === "paragraph";
  }
  return [{ type: "list", number: /\d/.test(mark) ? parseInt(mark, 10) : null, isLoose, items }, at];
}

/** The lines of one item, less its indent: those indented with it, and those that go on in its last paragraph. */
function itemLines(lines, at) {
  const [all, indent, mark, gap] = lines[at].match(ITEM);
  const width = gap.length > 4 ? indent.length + mark.length + 1 : all.length;
  // Models indent by two where the mark is wider, too.
  const end = indexFrom(lines, at + 1, (text, i) => {
    const goesOn = lines[i - 1].trim() && !startsBlock(text);
    return text.trim() && text.search(/\S/) < indent.length + 2 && !goesOn;
  });
  return [lines[at].slice(width), ...lines.slice(at + 1, end).map((line) => unindent(line, width))];
}

function isTable(lines, at) {
  const [head, divider] = [lines[at], lines[at + 1] ?? ""];
  if (!head.includes("|") || !DIVIDER.test(divider)) return false;
  return cells(divider).every((cell) => /^:?-+:?$/.test(cell)) && cells(divider).length === cells(head).length;
}

function table(lines, at) {
  const align = cells(lines[at + 1]).map((cell) => (!cell.endsWith(":") ? "start" : cell.startsWith(":") ? "center" : "end"));
  const end = indexFrom(lines, at + 2, (line) => !line.includes("|"));
  const row = (line) => align.map((_, i) => inline(cells(line)[i] ?? ""));
  return [{ type: "table", align, head: row(lines[at]), rows: lines.slice(at + 2, end).map(row) }, end];
}

function cells(line) {
  const inner = line.trim().replace(/^\|/, "").replace(/\|$/, "");
  return inner.split(/(?<!\\)\|/).map((cell) => cell.trim().replaceAll("\\|", "|"));
}

function paragraph(lines, at) {
  const end = indexFrom(lines, at + 1, (text, i) => !text.trim() || startsBlock(text) || isTable(lines, i));
  return [{ type: "paragraph", inline: inline(lines.slice(at, end).map((line) => line.trimStart()).join("\n")) }, end];
}

function indexFrom(lines, at, isIt) {
  while (at < lines.length && !isIt(lines[at], at)) at += 1;
  return at;
}

export function inline(text, depth = 0) {
  const out = [];
  let from = 0;
  for (const found of depth < MAX_DEPTH ? text.matchAll(MARKUP) : []) {
    out.push(text.slice(from, found.index), ...nodes(found, depth + 1));
    from = found.index + found[0].length;
  }
  return [...out, text.slice(from)].filter(Boolean);
}

function nodes({ 0: all, groups }, depth) {
  const { escaped, code, strong, em, italic, del, url, target, label } = groups;
  const node = (type, text) => [{ type, inline: inline(text, depth) }];
  if (escaped) return [escaped];
  if (code) return [{ type: "code", text: code.replaceAll("\n", " ").replace(/^ (.*\S.*) $/, "$1") }];
  if (strong) return node("strong", strong);
  if (em || italic) return node("em", em || italic);
  if (del) return node("del", del);
  if (groups.end) return [{ type: "break" }];
  // What ends a bare address belongs to the sentence around it.
  const bare = url?.replace(url.includes("(") ? /[.,;:!?*_~]+$/ : /[.,;:!?*_~)\]]+$/, "");
  const href = safe(bare ?? target);
  if (!href) return [all];
  return url ? [{ type: "link", href, inline: [bare] }, url.slice(bare.length)] : [{ ...node("link", label || target)[0], href }];
}

/** The address, if it is one that a link may lead to: whole, and of the web. */
function safe(address) {
  try {
    const { protocol, href } = new URL(address);
    return ["http:", "https:"].includes(protocol) ? href : null;
  } catch {
    return null;
  }
}
