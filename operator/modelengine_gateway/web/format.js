// Numbers and states as people read them. Pure.

export const seconds = (value) => `${value < 1 ? value.toFixed(2) : value < 10 ? value.toFixed(1) : Math.round(value)} s`;

export const count = (number, one) => `${number.toLocaleString("en")} ${one}${number === 1 ? "" : "s"}`;

export const short = (number) =>
  number >= 1e9 ? `${(number / 1e9).toFixed(1)} B` : number >= 1e6 ? `${(number / 1e6).toFixed(1)} M` : number.toLocaleString("en");

export function uptime(value) {
  const minutes = Math.floor(value / 60);
  if (minutes < 60) return minutes < 1 ? `${Math.floor(value)} s` : `${minutes} min`;
  return minutes < 1440 ? `${Math.floor(minutes / 60)} h ${minutes % 60} min` : count(Math.floor(minutes / 1440), "day");
}

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
  const named = (list) => list.map((one) => `${one.name} at ${address(one)}`);
  const [old, now] = [named(before), named(after)];
  const gone = old.filter((one) => !now.includes(one)).map((one) => `${one} is gone`);
  return [...gone, ...now.filter((one) => !old.includes(one)).map((one) => `${one} is listed`)];
}
