import assert from "node:assert/strict";
import test from "node:test";

import { inline, parse } from "./web/markdown.js";

const words = (text) => inline(text).map((one) => (typeof one === "string" ? one : { [one.type]: one.text ?? one.href ?? plain(one.inline) }));
const plain = (nodes) => nodes.map((one) => (typeof one === "string" ? one : plain(one.inline ?? [one.text]))).join("");
const kinds = (text) => parse(text).map(({ type }) => type);
const joined = (text) => words(text).reduce((all, one) => all.concat(one), []).map((one) => (typeof one === "string" ? one : JSON.stringify(one))).join("");

test("emphasis, code and breaks are found, and what only looks like them stays text", () => {
  assert.deepEqual(words("a **b** *c* ~~d~~ `e*f*`"), ["a ", { strong: "b" }, " ", { em: "c" }, " ", { del: "d" }, " ", { code: "e*f*" }]);
  assert.deepEqual(inline("one  \ntwo"), ["one", { type: "break" }, "two"]);
  assert.deepEqual(words("**中文**和*重点*。"), [{ strong: "中文" }, "和", { em: "重点" }, "。"]);
  for (const text of ["2 * 3 * 4", "snake_case_name", "a ** b", "`open", "**", "[a]", "[a](b", "5 < 6 && 7 > 6"]) assert.equal(joined(text), text);
});

test("emphasis nests", () => {
  const [strong] = inline("**a *b***");
  assert.deepEqual([strong.type, strong.inline[0], strong.inline[1].type], ["strong", "a ", "em"]);
});

test("a backslash takes the meaning away", () => {
  assert.equal(joined("\\*not\\* \\`this\\` \\d"), "*not* `this` \\d");
});

test("only whole addresses of the web become links", () => {
  assert.deepEqual(words("[x](https://a.example/b_(c))"), [{ link: "https://a.example/b_(c)" }]);
  assert.deepEqual(words("see https://a.example/b?c=1."), ["see ", { link: "https://a.example/b?c=1" }, "."]);
  const never = ["javascript:alert(1)", "JaVaScRiPt:alert(1)", "data:text/html,x", "vbscript:x", "/path", "//host", "file:///etc/passwd", "java\tscript:x", "mailto:a@b.example"];
  for (const target of never) assert.equal(joined(`[x](${target})`).includes('"link"'), false, target);
});

test("HTML is text", () => {
  const text = '<img src=x onerror="alert(1)"><script>alert(1)</script>';
  assert.deepEqual(inline(text), [text]);
  assert.deepEqual(kinds(`<div>\n\n${text}`), ["paragraph", "paragraph"]);
});

test("blocks follow one another without empty lines", () => {
  assert.deepEqual(kinds("# A\ntext\n- b\n- c\n\n> q\n\n---\n```py\nx\n```\nend"), ["heading", "paragraph", "list", "quote", "rule", "code", "paragraph"]);
});

test("code keeps its text, whatever stands in it, and may still be open", () => {
  const [code] = parse("```python title\n# a\n\n  **b** <i>\n");
  assert.deepEqual([code.language, code.text], ["python", "# a\n\n  **b** <i>\n"]);
  assert.equal(parse("````\n```\ninner\n```\n````")[0].text, "```\ninner\n```");
});

test("lists nest, keep their number, and hold code", () => {
  const [list] = parse("3. a\n   - b\n     - c\n4. d\n\n   ```\n   e\n   ```\n5. f");
  assert.deepEqual([list.number, list.items.length], [3, 3]);
  assert.deepEqual(list.items[0].map(({ type }) => type), ["paragraph", "list"]);
  assert.deepEqual(list.items[0][1].items[0].map(({ type }) => type), ["paragraph", "list"]);
  assert.deepEqual([list.items[1][1].type, list.items[1][1].text], ["code", "e"]);
});

test("a list is loose only where there is space in it", () => {
  assert.equal(parse("- a\n- b")[0].isLoose, false);
  assert.equal(parse("- a\n\n- b")[0].isLoose, true);
});

test("tables have their alignment, and as many cells in each row as in the head", () => {
  const [table] = parse("| a | b |\n|:-:|--:|\n| 1 |\n| 2 | 3 | 4 |\n\nafter");
  assert.deepEqual(table.align, ["center", "end"]);
  assert.deepEqual(table.rows.map((row) => row.map(plain)), [["1", ""], ["2", "3"]]);
  assert.deepEqual(kinds("a | b\nno table"), ["paragraph"]);
});

test("a text that grows may be parsed from its last block on", () => {
  const text = "# A\n\npara **b**\nmore\n\n- x\n  - y\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\n```js\nlet a = 1;\n\n```\nend";
  let shown = [];
  for (let length = 1; length <= text.length; length += 1) {
    const last = shown.at(-1);
    shown = [...shown.slice(0, -1), ...parse(text.slice(0, length), last?.line ?? 0)];
    assert.deepEqual(shown, parse(text.slice(0, length)), `after ${length} characters`);
  }
});

test("no text takes long", () => {
  const pieces = ["*", "**a ", "_", "`", "``", "[", "![", "[a](", "~~", "\\", "> ", "- ", "1. ", "| ", "|-", "#", "# ", "http://", " ", "<", "(", "```", "\n", "  \n", "a*b_c`d["];
  const started = performance.now();
  for (const piece of pieces) parse(piece.repeat(20_000 / piece.length));
  assert.ok(performance.now() - started < 20_000);
});
