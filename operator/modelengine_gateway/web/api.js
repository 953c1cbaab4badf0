// What the page asks the front door, over the native protocol. No other module uses the network.

import { LineDecoder, ServerError, parse, unwrap } from "./lines.js";

const AWAY = "The front door does not answer. Is it running, and can this machine reach it?";
const BROKEN = "The connection broke before the answer was complete.";
const UNFINISHED = "The answer stopped before its final part.";

/** `key()` gives the API key or null; `askKey(why)` asks a person for one and resolves to whether there is one now. */
export function connect(base, key, askKey) {
  let asking = null;
  let isDeclined = false;

  async function send(path, body, signal) {
    const headers = { ...(body && { "content-type": "application/json" }), ...(key() && { authorization: `Bearer ${key()}` }) };
    const init = { method: body ? "POST" : "GET", headers, body: body && JSON.stringify(body), signal };
    const response = await translated(() => fetch(new URL(path, base), init), "connection_failed", AWAY);
    if (response.ok) return response;
    const text = await response.text();
    const envelope = text.startsWith("{") ? parse(text) : null;
    if (response.status === 401 && (await hasNewKey(envelope?.msg))) return send(path, body, signal);
    return unwrap(envelope, response.status);
  }

  /** All that meet a 401 share one question; once declined, only a new chat asks again. */
  async function hasNewKey(why) {
    if (isDeclined) return false;
    asking ??= askKey(why).finally(() => (asking = null));
    isDeclined = !(await asking);
    return !isDeclined;
  }

  async function ask(path, body) {
    return unwrap(parse(await (await send(path, body)).text()));
  }

  async function* stream(path, body, signal) {
    const decoder = new LineDecoder();
    const reader = (await send(path, body, signal)).body.getReader();
    try {
      while (true) {
        const { done, value } = await translated(() => reader.read(), "stream_broken", BROKEN);
        if (done) return;
        for (const envelope of decoder.feed(value)) yield unwrap(envelope);
      }
    } finally {
      reader.cancel().catch(() => {});
    }
  }

  return {
    /** Every name that can be asked for: [{name, protocol, replicas, why_not}]. */
    models: async () => (await ask("models")).models,
    info: (model) => ask("engine/info", { model }),
    nameServer: () => ask("nameserver/info", {}),
    watch: (signal) => stream("nameserver/watch", {}, signal),
    /** The parts of an answer. It ends with the final one or throws. Aborting the signal stops it at the engine. */
    async *chat(request, signal) {
      isDeclined = false;
      for await (const part of stream("engine/inference", { ...request, stream: true }, signal)) {
        yield part;
        if (part.done) return;
      }
      throw new ServerError("stream_broken", UNFINISHED);
    },
  };
}

async function translated(deed, code, message) {
  try {
    return await deed();
  } catch (failure) {
    throw failure.name === "AbortError" ? failure : new ServerError(code, message);
  }
}
