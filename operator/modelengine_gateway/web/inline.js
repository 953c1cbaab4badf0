// Markdown inside a paragraph: a list of strings and of nodes {type: "strong" | "em" | "del", inline}, {type: "code",
// text}, {type: "link", href, inline} and {type: "break"}. Pure. What is no markup stays the text that it was.

// Every stretch is bounded, so that no text takes long, whatever stands in it.
const MARKUP = new RegExp(
  [
    String.raw`\\(?<escaped>[!-\/:-@\[-${"`"}{-~])`,
    "(?<!`)(?<ticks>`+)(?!`)(?<code>[^]{1,4000}?)(?<!`)\\k<ticks>(?!`)",
    String.raw`!?\[(?<label>(?:[^\[\]\\]|\\.|\[[^\[\]]{0,99}\]){0,999})\]\(\s?<?(?<target>(?:[^\s()<>]|\([^\s()]{0,999}\)){1,1999})>?(?:\s"[^"]{0,999}")?\)`,
    String.raw`\*\*(?=\S)(?<strong>[^]{1,3000}?)(?<!\s)\*\*(?!\*)`,
    String.raw`(?<![\p{L}\p{N}_])__(?=\S)(?<strong2>[^]{1,3000}?)(?<!\s)__(?![\p{L}\p{N}_])`,
    String.raw`\*(?![\s*])(?<em>(?:[^*]|\*\*){1,3000}?)(?<!\s)\*(?!\*)`,
    String.raw`(?<![\p{L}\p{N}_])_(?![\s_])(?<em2>[^_]{1,3000}?)(?<!\s)_(?![\p{L}\p{N}_])`,
    String.raw`~~(?=\S)(?<del>[^]{1,3000}?)(?<!\s)~~`,
    String.raw`(?<![\p{L}\p{N}])(?<url>https?:\/\/[^\s<>"'${"`"}\u3000-\u303f\uff00-\uffef]{1,1999})`,
    String.raw`(?<break> {2,}\n)`,
  ].join("|"),
  "gu",
);
const MAX_DEPTH = 6;

export function inline(text, depth = 0) {
  const out = [];
  let from = 0;
  for (const found of depth < MAX_DEPTH ? text.matchAll(MARKUP) : []) {
    push(out, text.slice(from, found.index));
    nodes(found, depth + 1).forEach((node) => push(out, node));
    from = found.index + found[0].length;
  }
  push(out, text.slice(from));
  return out;
}

function nodes({ 0: all, groups: found }, depth) {
  const styled = (type, text) => [{ type, inline: inline(text, depth) }];
  if (found.escaped) return [found.escaped];
  if (found.code) return [{ type: "code", text: found.code.replace(/\n/g, " ").replace(/^ (.*\S.*) $/, "$1") }];
  if (found.strong ?? found.strong2) return styled("strong", found.strong ?? found.strong2);
  if (found.em ?? found.em2) return styled("em", found.em ?? found.em2);
  if (found.del) return styled("del", found.del);
  if (found.break) return [{ type: "break" }];
  if (found.url) return bare(found.url);
  const href = safe(found.target);
  return href ? [{ type: "link", href, inline: inline(found.label || found.target, depth) }] : [all];
}

/** An address in the text, less what belongs to the sentence around it. */
function bare(found) {
  const url = found.replace(found.includes("(") ? /[.,;:!?*_~]+$/ : /[.,;:!?*_~)\]]+$/, "");
  const href = safe(url);
  return href ? [{ type: "link", href, inline: [url] }, found.slice(url.length)] : [found];
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

function push(out, node) {
  if (typeof node === "string" && typeof out.at(-1) === "string") out.push(out.pop() + node);
  else if (node !== "") out.push(node);
}
