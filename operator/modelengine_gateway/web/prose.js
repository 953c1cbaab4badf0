// Shows markdown. A text that grows is drawn anew only in its last block, so that what was read stays still.

import { copyButton, h } from "./dom.js";
import { parse } from "./markdown.js";

export function prose() {
  const node = h("div.prose");
  let shown = "";
  let last = null;

  function show(text) {
    if (text === shown) return;
    const hasGrown = last && text.startsWith(shown);
    const found = parse(text, hasGrown ? last.line : 0);
    if (hasGrown && found.length === 1 && last.type === "code" && found[0].type === "code") {
      // The same node, so that a long line stays scrolled to where it is read.
      fill(node.lastChild, found[0]);
    } else {
      if (hasGrown) node.lastChild.remove();
      else node.replaceChildren();
      node.append(...found.map(block));
    }
    shown = text;
    last = found.at(-1);
  }

  return { node, show };
}

const BLOCKS = {
  paragraph: ({ inline }) => h("p", {}, text(inline)),
  // The page's own headings come first: a turn is an h2.
  heading: ({ level, inline }) => h(`h${Math.min(level + 2, 6)}`, {}, text(inline)),
  rule: () => h("hr"),
  quote: ({ blocks }) => h("blockquote", {}, blocks.map(block)),
  code(found) {
    const code = h("code");
    const head = h("figcaption", {}, h("span"), copyButton(() => code.textContent, "Copy this code"));
    return fill(h("figure.code", {}, head, h("pre", { tabindex: 0 }, code)), found);
  },
  list({ number, isLoose, items }) {
    const inside = (one) => (one.type === "paragraph" && !isLoose ? text(one.inline) : block(one));
    const children = items.map((item) => h("li", {}, item.flatMap(inside)));
    return number === null ? h("ul", {}, children) : h("ol", { start: number }, children);
  },
  table({ align, head, rows }) {
    const row = (tag) => (cells) => h("tr", {}, cells.map((cell, i) => h(`${tag}.${align[i]}`, {}, text(cell))));
    const table = h("table", {}, h("thead", {}, row("th")(head)), h("tbody", {}, rows.map(row("td"))));
    return h("div.sheet", { tabindex: 0, role: "region", "aria-label": "Table" }, table);
  },
};

const block = (one) => BLOCKS[one.type](one);

function fill(figure, { language, text: lines }) {
  figure.querySelector("span").textContent = language || "text";
  figure.querySelector("code").textContent = lines;
  return figure;
}

function text(inline) {
  return inline.map((one) => {
    if (typeof one === "string") return one;
    if (one.type === "code") return h("code", {}, one.text);
    if (one.type === "break") return h("br");
    if (one.type !== "link") return h(one.type, {}, text(one.inline));
    return h("a", { href: one.href, target: "_blank", rel: "noopener noreferrer" }, text(one.inline));
  });
}
