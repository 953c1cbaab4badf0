import assert from "node:assert/strict";
import test from "node:test";

import * as conversations from "./web/conversation.js";

const part = (fields) => ({ content: "", done: false, ...fields });

function told(conversation, ...parts) {
  const answer = parts.reduce(conversations.takePart, conversation.turns.at(-1));
  return conversations.replaceLast(conversation, answer);
}

const asked = conversations.ask(conversations.fresh("1", "demo"), "hello");
const answered = told(asked, part({ reasoning_content: "hm" }), part({ content: "a" }), part({ content: "b" }), part({ done: true, finish_reason: "stop" }));

test("parts become text, thoughts and calls, and the last one ends the answer", () => {
  const { text, thoughts, calls, state, reason } = told(answered, part({ tool_calls: [{ id: "1" }] })).turns[1];
  assert.deepEqual({ text, thoughts, calls, state, reason }, { text: "ab", thoughts: "hm", calls: [{ id: "1" }], state: "done", reason: "stop" });
});

test("what was before stays as it was", () => {
  assert.deepEqual([asked.turns.length, asked.turns[1].text], [2, ""]);
});

test("a request has the system prompt, the turns and no open answer", () => {
  const next = { ...conversations.ask(answered, "more"), system: "be brief", options: { seed: 1 } };
  assert.deepEqual(conversations.request(next), {
    model: "demo",
    messages: [
      { role: "system", content: "be brief" },
      { role: "user", content: "hello" },
      { role: "assistant", content: "ab" },
      { role: "user", content: "more" },
    ],
    options: { seed: 1 },
  });
});

test("a question that got no answer is asked together with the next", () => {
  const failed = conversations.replaceLast(asked, conversations.failed(asked.turns[1], { code: "busy", message: "full" }));
  assert.deepEqual(conversations.request(conversations.ask(failed, "and?")).messages, [{ role: "user", content: "hello\n\nand?" }]);
});

test("calls of tools go back with the answer that made them", () => {
  const calls = [{ id: "c", function: { name: "f", arguments: "{}" } }];
  const { messages } = conversations.request(conversations.ask(told(asked, part({ tool_calls: calls })), "go on"));
  assert.deepEqual(messages[1], { role: "assistant", content: "", tool_calls: calls });
});

test("an answer that was open when the page closed has failed, an ended one is as it was", () => {
  assert.equal(conversations.settled(asked).turns[1].error.code, "page_closed");
  assert.equal(conversations.settled(answered), answered);
});

test("the rate leaves the first token out, and needs a second", () => {
  const clock = { sentAt: 1000, firstAt: 1250, lastAt: 2250, tokens: 11 };
  assert.deepEqual(conversations.measured({}, clock).measured, { firstAfter: 0.25, tokens: 11, rate: 10 });
  assert.equal(conversations.measured({}, { ...clock, tokens: 1 }).measured.rate, null);
});

test("a conversation is called by its name, else by how it begins", () => {
  assert.equal(conversations.title(conversations.fresh("1", null)), "New chat");
  assert.equal(conversations.title(asked), "hello");
  assert.equal(conversations.title({ ...asked, name: "Mine" }), "Mine");
  assert.equal([...conversations.title(conversations.ask(conversations.fresh("1", "m"), "😀".repeat(99)))].length, 60);
});
