// The native protocol's bytes into envelopes, and an envelope into its message or its error. Pure.

export class ServerError extends Error {
  constructor(code, message, { status, retryAfter } = {}) {
    super(message);
    Object.assign(this, { code, status, retryAfter });
  }
}

export class LineDecoder {
  #decoder = new TextDecoder();
  #rest = "";

  /** Takes bytes, cut wherever the network liked; returns the values of the lines that they complete. */
  feed(bytes) {
    this.#rest += this.#decoder.decode(bytes, { stream: true });
    const lines = this.#rest.split("\n");
    this.#rest = lines.pop();
    return lines.filter((line) => line.trim()).map(parse);
  }
}

export function parse(text) {
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
  throw new ServerError(code, String(msg), { status, retryAfter });
}
