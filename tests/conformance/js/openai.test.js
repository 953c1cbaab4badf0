// The `openai` JavaScript package against a live front door and engine; `test_openai_javascript.py` runs it.
import assert from "node:assert/strict";
import { test } from "node:test";

import OpenAI from "openai";

const client = new OpenAI({ baseURL: process.env.MODELENGINE_URL, apiKey: "none", maxRetries: 0 });
const messages = [{ role: "user", content: "What is 12 + 30?" }];
const greedy = { model: "demo", messages, temperature: 0, max_tokens: 40 };
const ANSWER = "12 + 30 = 42";

test("models are listed and retrieved", async () => {
  const found = [];
  for await (const model of client.models.list()) found.push(model.id);
  assert.deepEqual(found, ["demo"]);
  assert.equal((await client.models.retrieve("demo")).object, "model");
});

test("a chat is answered", async () => {
  const answer = await client.chat.completions.create(greedy);
  assert.equal(answer.choices[0].message.content, ANSWER);
  assert.equal(answer.choices[0].finish_reason, "stop");
  assert.equal(answer.usage.total_tokens, answer.usage.prompt_tokens + answer.usage.completion_tokens);
});

test("a stream says the same, with its usage last", async () => {
  const stream = await client.chat.completions.create({
    ...greedy,
    stream: true,
    stream_options: { include_usage: true },
  });
  let text = "";
  let last;
  for await (const chunk of stream) {
    text += chunk.choices[0]?.delta.content ?? "";
    last = chunk;
  }
  assert.equal(text, ANSWER);
  assert.ok(last.usage.completion_tokens > 0);
});

test("the package's own accumulator ends with the whole answer", async () => {
  const runner = client.chat.completions.stream(greedy);
  const whole = await runner.finalChatCompletion();
  assert.equal(whole.choices[0].message.content, ANSWER);
});

test("several choices come in one answer", async () => {
  const answer = await client.chat.completions.create({ ...greedy, n: 3 });
  assert.deepEqual(answer.choices.map((choice) => choice.index), [0, 1, 2]);
});

test("a completion is what the assistant answers", async () => {
  const answer = await client.completions.create({ model: "demo", prompt: messages[0].content, temperature: 0 });
  assert.equal(answer.choices[0].text, ANSWER);
});

test("a response is answered, and streamed in typed events", async () => {
  const asked = { model: "demo", input: messages[0].content, temperature: 0 };
  assert.equal((await client.responses.create(asked)).output_text, ANSWER);
  const stream = client.responses.stream(asked);
  const kinds = new Set();
  for await (const event of stream) kinds.add(event.type);
  assert.ok(kinds.has("response.output_text.delta"));
  assert.equal((await stream.finalResponse()).output_text, ANSWER);
});

test("a failure is the package's own error", async () => {
  await assert.rejects(client.chat.completions.create({ ...greedy, model: "nobody" }), (error) => {
    assert.ok(error instanceof OpenAI.NotFoundError);
    assert.equal(error.code, "model_not_found");
    return true;
  });
  await assert.rejects(client.chat.completions.create({ ...greedy, temperature: 99 }), (error) => {
    assert.ok(error instanceof OpenAI.BadRequestError);
    assert.equal(error.param, "temperature");
    return true;
  });
});

test("who stops reading ends the request", async () => {
  const stream = await client.chat.completions.create({
    ...greedy,
    messages: [{ role: "user", content: "Count from 1 to 300." }],
    max_tokens: 900,
    stream: true,
  });
  for await (const chunk of stream) {
    if (chunk.choices[0].delta.content) break;
  }
  assert.ok(stream.controller.signal.aborted);
});
