// Numbers and states as people read them. Pure.

export const seconds = (value) => `${value < 1 ? value.toFixed(2) : value < 10 ? value.toFixed(1) : Math.round(value)} s`;

export const count = (number, one) => `${number.toLocaleString("en")} ${one}${number === 1 ? "" : "s"}`;

export const short = (number) => number.toLocaleString("en", { notation: "compact", maximumFractionDigits: 1 });

/** The lines beside an answer, in the order of what people ask first. */
export function measurement({ rate, firstAfter, tokens }) {
  const lines = [`first after ${seconds(firstAfter)}`, count(tokens, "token")];
  return rate === null ? lines : [`${rate < 10 ? rate.toFixed(1) : Math.round(rate)} tokens/s`, ...lines];
}

/** How a model stands: {state: "ready" | "away" | "gone", text}. `card` is undefined for a name that nobody has. */
export function standing(card) {
  if (!card) return { state: "gone", text: "nobody serves this name now" };
  if (card.replicas) return { state: "ready", text: `ready, ${count(card.replicas, "replica")}` };
  return { state: "away", text: card.why_not || "no replica is ready" };
}

export const address = ({ host, port }) => `${host.includes(":") ? `[${host}]` : host}:${port}`;

/** Lines about the replicas that came and went between two snapshots of the registry. */
export function changes(before, after) {
  const [old, now] = [before, after].map((list) => list.map((one) => `${one.name} at ${address(one)}`));
  const less = (these, those, word) => these.filter((one) => !those.includes(one)).map((one) => `${one} ${word}`);
  return [...less(old, now, "is gone"), ...less(now, old, "is listed")];
}

/** What an empty conversation offers to try. The demo model is a toy that knows a few things. */
export const examples = (model) =>
  model === "demo"
    ? ["What is ModelEngine?", "Show me the 7 times table", "What is 27 + 45?", "Count from 1 to 50.", "介绍一下你自己。"]
    : ["Explain how a hash table works, with a short example in Python.", "Compare TCP and UDP in a table."];
