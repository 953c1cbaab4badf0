// The second view: every model with its load, and the registry as it changes. It asks only while somebody looks.

import { $, button, h } from "./dom.js";
import { address, changes, count, short, standing, uptime } from "./format.js";

const POLL_MS = 3000;
const SHOWN_CHANGES = 50;

/** `onModels(cards)` hears of each look; `onPick(name)` of the wish to chat. */
export function modelsView(api, onModels, onPick) {
  const rows = new Map();
  // Those in sight: only they are asked for their load.
  const seen = new Set();
  const observer = new IntersectionObserver((entries) => {
    for (const { target, isIntersecting } of entries) seen[isIntersecting ? "add" : "delete"](target.dataset.name);
  });
  let looking = new AbortController();
  let listed = null;

  /** Begins to look, or ends, as the view and the tab are in sight or not. */
  function toggle() {
    looking.abort();
    looking = new AbortController();
    if ($("models-view").hidden || document.hidden) return;
    again(poll, $("server"), looking.signal);
    again(watch, $("registry-line"), looking.signal);
  }

  async function poll() {
    const [cards, server] = await Promise.all([api.models(), api.nameServer()]);
    onModels(cards);
    $("server").textContent =
      `${server.name} ${server.version}, names ${server.kind}, up ${uptime(server.uptime_s)}. ` +
      (cards.length ? "" : "Nothing is served yet: start an engine, or apply a ModelEngine.");
    $("models").replaceChildren(...cards.map(place));
    const asked = cards.filter(({ name, replicas }) => replicas && seen.has(name));
    await Promise.all(asked.map((card) => api.info(card.name).then((info) => rows.get(card.name).load(info, card), () => {})));
  }

  function place(card) {
    if (!rows.has(card.name)) rows.set(card.name, row(card.name, onPick));
    const { node, show } = rows.get(card.name);
    show(card);
    observer.observe(node);
    return node;
  }

  async function watch(signal) {
    for await (const { services, revision } of api.watch(signal)) {
      $("registry-line").replaceChildren(h("span.dot.ready"), `Live. Revision ${revision}, ${count(services.length, "replica")}.`);
      const cells = services.map((one) => [one.name, one.protocol, address(one)].map((text) => h("td", {}, text)));
      $("registry").replaceChildren(...cells.map((row) => h("tr", {}, row)));
      const now = new Date().toLocaleTimeString("en-GB");
      $("changes").prepend(...changes(listed ?? services, services).map((line) => h("li", {}, h("time", {}, now), line)));
      [...$("changes").children].slice(SHOWN_CHANGES).forEach((node) => node.remove());
      listed = services;
    }
  }

  document.addEventListener("visibilitychange", toggle);
  return toggle;
}

/** Does it again and again until the signal aborts; a failure stands in `line` until it goes well. */
async function again(deed, line, signal) {
  while (!signal.aborted) {
    await deed(signal).catch((failure) => signal.aborted || (line.textContent = failure.message));
    await new Promise((resolve) => setTimeout(resolve, POLL_MS));
  }
}

function row(name, onPick) {
  const [dot, why, facts, load] = ["span", "p.why", "p.facts", "dl"].map((what) => h(what));
  const chat = button("Chat", () => onPick(name));
  chat.setAttribute("aria-label", `Chat with ${name}`);
  return {
    node: h("li", { "data-name": name }, h("div.head", {}, h("h3", {}, dot, name), why, facts), load, chat),
    show(card) {
      const { state, text } = standing(card);
      dot.className = `dot ${state}`;
      why.textContent = card.protocol === "chat" ? text : `${text}; speaks ${card.protocol}`;
      chat.hidden = card.protocol !== "chat";
      if (!card.replicas) (facts.replaceChildren(), load.replaceChildren());
    },
    /** Facts and load, as one replica tells them. */
    load(info, { replicas }) {
      const known = [
        info.parameters && `${short(info.parameters)} parameters`,
        info.context_length && `context ${short(info.context_length)}`,
        info.dtype && `${info.dtype} on ${info.device}`,
        info.load && replicas > 1 && "load of one replica",
      ];
      facts.textContent = known.filter(Boolean).join(", ");
      const pair = ([term, value]) => h("div", {}, h("dt", {}, term), h("dd", {}, value));
      load.replaceChildren(...loadOf(info.load ?? {}).map(pair));
    },
  };
}

function loadOf({ running, waiting, blocks_used, blocks_total, hit_tokens, prompt_tokens, finished }) {
  const share = (part, whole) => whole > 0 && `${Math.round((100 * part) / whole)} %`;
  const all = [
    ["answering", running],
    ["waiting", waiting],
    ["cache full", share(blocks_used, blocks_total)],
    ["prompt reused", share(hit_tokens, prompt_tokens)],
    ["answered", finished],
  ];
  return all.filter(([, value]) => value !== undefined && value !== false);
}
