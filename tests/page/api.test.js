import assert from "node:assert/strict";
import { createServer } from "node:http";
import test from "node:test";

import { LineDecoder, connect, unwrap } from "./web/api.js";

const ok = (msg) => `${JSON.stringify({ state: "ok", msg })}\n`;

/** Serves `answer(request, response)` and gives an API over it. */
async function over(t, answer, key = () => null, askKey = async () => false) {
  const server = createServer(answer).listen(0, "127.0.0.1");
  await new Promise((resolve) => server.once("listening", resolve));
  t.after(() => (server.closeAllConnections(), server.close()));
  return connect(`http://127.0.0.1:${server.address().port}/`, key, askKey);
}

async function all(stream) {
  const found = [];
  for await (const one of stream) found.push(one);
  return found;
}

test("lines are the same however the network cuts their bytes", () => {
  const bytes = new TextEncoder().encode('{"a":"日本語 😀"}\n\n{"b":2}\n{"c":');
  for (let size = 1; size <= bytes.length; size += 1) {
    const decoder = new LineDecoder();
    const found = [];
    for (let at = 0; at < bytes.length; at += size) found.push(...decoder.feed(bytes.slice(at, at + size)));
    assert.deepEqual(found, [{ a: "日本語 😀" }, { b: 2 }]);
  }
});

test("what is no envelope and what is no JSON are errors, not silence", () => {
  assert.throws(() => unwrap({ hello: 1 }, 502), { code: "internal", message: "The server answered HTTP 502." });
  assert.throws(() => new LineDecoder().feed(new TextEncoder().encode("<html>\n")), { code: "stream_broken" });
});

test("a stream ends with its final part", async (t) => {
  const api = await over(t, (_, response) => response.end(ok({ content: "a", done: false }) + ok({ done: true }) + ok({ content: "never" })));
  assert.equal((await all(api.chat({}))).length, 2);
});

test("a stream that stops before its final part is an error", async (t) => {
  const api = await over(t, (_, response) => response.end(ok({ content: "a", done: false })));
  await assert.rejects(all(api.chat({})), { code: "stream_broken", message: "The answer stopped before its final part." });
});

test("a connection that breaks is an error", async (t) => {
  const api = await over(t, (_, response) => {
    response.write(ok({ content: "a", done: false }), () => setTimeout(() => response.destroy(), 20));
  });
  await assert.rejects(all(api.chat({})), { code: "stream_broken" });
});

test("an error line is the error that it names", async (t) => {
  const line = JSON.stringify({ state: "error", code: "busy", msg: "all full", retry_after_s: 2 });
  const api = await over(t, (_, response) => response.end(`${ok({ content: "a", done: false })}${line}\n`));
  await assert.rejects(all(api.chat({})), { code: "busy", message: "all full", retryAfter: 2 });
});

test("a refusal is the error that it names, and a foreign one says its status", async (t) => {
  const api = await over(t, (request, response) => {
    response.statusCode = request.url === "/models" ? 502 : 404;
    response.end(request.url === "/models" ? "<h1>Bad gateway</h1>" : '{"state":"error","code":"not_found","msg":"no model"}');
  });
  await assert.rejects(api.info("x"), { code: "not_found", message: "no model" });
  await assert.rejects(api.models(), { message: "The server answered HTTP 502." });
});

test("nobody there is an error in words", async () => {
  await assert.rejects(connect("http://127.0.0.1:9/", () => null).models(), { code: "connection_failed" });
});

test("a missing key is asked for once, for all that need it, and then sent", async (t) => {
  let key = null;
  const why = [];
  const askKey = async (reason) => (why.push(reason), (key = "k1"), true);
  const answer = (request, response) => {
    const isRight = request.headers.authorization === "Bearer k1";
    response.statusCode = isRight ? 200 : 401;
    response.end(isRight ? ok({ models: [] }) : '{"state":"error","code":"unauthorized","msg":"a key is needed"}');
  };
  const api = await over(t, answer, () => key, askKey);
  assert.deepEqual(await Promise.all([api.models(), api.models()]), [[], []]);
  assert.deepEqual(why, ["a key is needed"]);
});

test("who declines to give a key is not asked again by what runs by itself", async (t) => {
  let asked = 0;
  const refuse = (_, response) => ((response.statusCode = 401), response.end('{"state":"error","code":"unauthorized","msg":"no"}'));
  const api = await over(t, refuse, () => null, async () => (asked++, false));
  await assert.rejects(api.models(), { code: "unauthorized" });
  await assert.rejects(api.models(), { code: "unauthorized" });
  assert.equal(asked, 1);
  await assert.rejects(all(api.chat({})), { code: "unauthorized" });
  assert.equal(asked, 2);
});
