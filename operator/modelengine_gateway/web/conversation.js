// A conversation as data, and what can happen to it. Pure: each function returns a new conversation or answer.
//
// {id, name, model, system, options, turns, created, updated}; a turn is a question {role: "user", text} or an answer
// {role: "assistant", model, text, thoughts, calls, state, reason, error, measured}, whose state is "open" while parts
// come, then "done", "stopped" by the reader or "failed" with {code, message, retryAfter}.

export const fresh = (id, model, now) => ({
  id, name: "", model, system: "", options: {}, turns: [], created: now, updated: now,
});

/** The name that was given, else the beginning of the first question. */
export function title({ name, turns }) {
  const first = [...(turns.find((turn) => turn.role === "user")?.text.trim().replace(/\s+/g, " ") ?? "")];
  return name || (first.length > 60 ? `${first.slice(0, 59).join("")}…` : first.join("")) || "New chat";
}

/** Adds a question and the open answer to it. */
export function ask(conversation, text, now) {
  return reply({ ...conversation, turns: [...conversation.turns, { role: "user", text }] }, now);
}

export function reply(conversation, now) {
  const answer = { role: "assistant", model: conversation.model, text: "", thoughts: "", calls: [], state: "open" };
  return { ...conversation, turns: [...conversation.turns, answer], updated: now };
}

/** All before turn number `index`, from where an edited question or another try goes on. */
export function rewind(conversation, index) {
  return { ...conversation, turns: conversation.turns.slice(0, index) };
}

/** The answer with one more part of its stream. */
export function takePart(answer, part) {
  return {
    ...answer,
    text: answer.text + (part.content ?? ""),
    thoughts: answer.thoughts + (part.reasoning_content ?? ""),
    calls: [...answer.calls, ...(part.tool_calls ?? [])],
    ...(part.done && { state: "done", reason: part.finish_reason }),
  };
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

export function replaceLast(conversation, answer, now = conversation.updated) {
  return { ...conversation, turns: [...conversation.turns.slice(0, -1), answer], updated: now };
}

/** As a page finds it that was not there to see its end: what was open can't go on. */
export function settled(conversation) {
  const last = conversation.turns.at(-1);
  if (last?.state !== "open") return conversation;
  const error = { code: "page_closed", message: "The page was closed before the answer ended." };
  return replaceLast(conversation, failed(last, error));
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
