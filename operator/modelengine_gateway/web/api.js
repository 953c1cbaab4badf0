// What the page asks the front door, over the native protocol. No other module uses the network.

const AWAY = "The front door does not answer. Is it running?";
const BROKEN = "The connection broke before the answer was complete.";
const UNFINISHED = "The answer stopped before its final part.";

export class ServerError extends Error {
  constructor(code, message, more) {
    super(message);
    Object.assign(this, { code, ...more });
  }
}

/** Cuts bytes, as the network brings them, into the values of whole lines. */
export class LineDecoder {
  #decoder = new TextDecoder();
  #rest = "";

  feed(bytes) {
    const lines = (this.#rest + this.#decoder.decode(bytes, { stream: true })).split("\n");
    this.#rest = lines.pop();
    return lines.filter((line) => line.trim()).map(parse);
  }
}

function parse(text) {
  try {
    return JSON.parse(text);
  } catch {
    throw new ServerError("stream_broken", `This is no answer of a ModelEngine server: ${text.slice(0, 80)}`);
  }
}

/** The envelope's message. Throws the error that it carries. */
export function unwrap(envelope, status) {
  if (envelope?.state === "ok") return envelope.msg;
  const { code = "internal", msg = `The server answered HTTP ${status}.`, retry_after_s: retryAfter } = envelope ?? {};
  throw new ServerError(code, msg, { retryAfter });
}

/** `key()` gives the API key or null; `askKey(why)` asks a person for one and resolves to whether there is one now. */
export function connect(base, key, askKey) {
  let asking = null;
  let isDeclined = false;

  async function send(path, body, signal) {
    const sent = key();
    const headers = { ...(body && { "content-type": "application/json" }), ...(sent && { authorization: `Bearer ${sent}` }) };
    const init = { method: body ? "POST" : "GET", headers, body: body && JSON.stringify(body), signal };
    const response = await translated(fetch(new URL(path, base), init), "connection_failed", AWAY);
    if (response.ok) return response;
    const text = await response.text();
    const envelope = text.startsWith("{") ? parse(text) : null;
    if (response.status === 401 && (key() !== sent || (await hasNewKey(envelope?.msg)))) return send(path, body, signal);
    return unwrap(envelope, response.status);
  }

  /** All that meet a 401 share one question; once declined, only a new chat asks again. */
  async function hasNewKey(why) {
    if (isDeclined) return false;
    asking ??= askKey(why).finally(() => (asking = null));
    isDeclined = !(await asking);
    return !isDeclined;
  }

  const ask = async (path, body) => unwrap(parse(await (await send(path, body)).text()));

  async function* stream(path, body, signal) {
    const decoder = new LineDecoder();
    const reader = (await send(path, body, signal)).body.getReader();
    try {
      while (true) {
        const { done, value } = await translated(reader.read(), "stream_broken", BROKEN);
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

async function translated(work, code, message) {
  try {
    return await work;
  } catch (failure) {
    throw failure.name === "AbortError" ? failure : new ServerError(code, message);
  }
}
