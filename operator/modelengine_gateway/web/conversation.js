// A conversation as data, and what can happen to it. Pure: each function returns a new conversation or answer.
//
// {id, name, model, system, options, turns, updated}; a turn is a question {role: "user", text} or an answer {role:
// "assistant", model, text, thoughts, calls, state, ...}, whose state is "open" while parts come, then "done", "stopped"
// by the reader or "failed", with an error.

export const fresh = (id, model) => ({ id, name: "", model, system: "", options: {}, turns: [], updated: 0 });

/** The name that was given, else the beginning of the first question. */
export function title({ name, turns }) {
  const first = [...(turns[0]?.text.trim().replace(/\s+/g, " ") ?? "")];
  return name || (first.length > 60 ? `${first.slice(0, 59).join("")}…` : first.join("")) || "New chat";
}

/** All before turn number `index`, from where an edited question or another try goes on. */
export const rewind = (conversation, index) => ({ ...conversation, turns: conversation.turns.slice(0, index) });

export const ask = (conversation, text) => reply(add(conversation, { role: "user", text }));

/** Adds an open answer to the last question. */
export const reply = (conversation) =>
  add(conversation, { role: "assistant", model: conversation.model, text: "", thoughts: "", calls: [], state: "open" });

const add = (conversation, turn) => ({ ...conversation, turns: [...conversation.turns, turn], updated: Date.now() });

/** The answer with one more part of its stream. */
export function takePart(answer, { content, reasoning_content: thought, tool_calls: calls, done, finish_reason: reason }) {
  const [text, thoughts] = [answer.text + (content ?? ""), answer.thoughts + (thought ?? "")];
  return { ...answer, text, thoughts, calls: [...answer.calls, ...(calls ?? [])], ...(done && { state: "done", reason }) };
}

export const stopped = (answer) => ({ ...answer, state: "stopped" });

export function failed(answer, { code, message, retryAfter }) {
  return { ...answer, state: "failed", error: { code, message, retryAfter } };
}

/** Given in milliseconds, kept in seconds; the rate is that of the tokens after the first, null where there are none. */
export function measured(answer, { sentAt, firstAt, lastAt, tokens }) {
  const rate = tokens > 1 && lastAt > firstAt ? (1000 * (tokens - 1)) / (lastAt - firstAt) : null;
  return { ...answer, measured: { firstAfter: (firstAt - sentAt) / 1000, tokens, rate } };
}

export const replaceLast = (conversation, answer) => add(rewind(conversation, -1), answer);

/** As a page finds it that was not there to see its end: what was open can't go on. */
export function settled(conversation) {
  const last = conversation.turns.at(-1);
  const error = { code: "page_closed", message: "The page was closed before the answer ended." };
  return last?.state === "open" ? replaceLast(conversation, failed(last, error)) : conversation;
}

/** The request that the open answer is to come from. Two questions in a row become one: models expect turns. */
export function request({ model, system, options, turns }) {
  const messages = system.trim() ? [{ role: "system", content: system }] : [];
  for (const { role, text, calls = [] } of turns) {
    const last = messages.at(-1);
    if (role === "user" && last?.role === "user") last.content += `\n\n${text}`;
    else if (text || calls.length) messages.push({ role, content: text, ...(calls.length && { tool_calls: calls }) });
  }
  return { model, messages, options };
}
