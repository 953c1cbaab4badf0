// The second view: every model with its load, and the registry as it changes. It asks only while somebody looks.

import { $, button, h } from "./dom.js";
import { address, changes, count, short, standing } from "./format.js";

const POLL_MS = 3000;
const SHOWN_CHANGES = 50;

/** `onModels(cards)` hears of each look; `onPick(name)` of the wish to chat. Returns what begins and ends the looking. */
export function modelsView(api, onModels, onPick) {
  const rows = new Map();
  // Those in sight: only they are asked for their load.
  const seen = new Set();
  const observer = new IntersectionObserver((entries) => {
    for (const { target, isIntersecting } of entries) seen[isIntersecting ? "add" : "delete"](target.id);
  });
  let looking = new AbortController();
  let listed;

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
    const nothing = cards.length ? "" : " Nothing is served yet.";
    $("server").textContent = `${server.name} ${server.version} (${server.kind}).${nothing}`;
    $("models").replaceChildren(...cards.map(place));
    const asked = cards.filter(({ name, replicas }) => replicas && seen.has(`model ${name}`));
    await Promise.all(asked.map((card) => api.info(card.name).then((info) => rows.get(card.name).load(info, card), () => {})));
  }

  function place(card) {
    const one = rows.get(card.name) ?? row(card.name, onPick);
    if (!rows.has(card.name)) seen.add(one.node.id);
    rows.set(card.name, one);
    one.show(card);
    observer.observe(one.node);
    return one.node;
  }

  async function watch(signal) {
    for await (const { services, revision } of api.watch(signal)) {
      $("registry-line").replaceChildren(h("span.dot.ready"), `Live: revision ${revision}, ${count(services.length, "replica")}`);
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
  const [dot, why, facts, load] = ["span", "p.why", "p.why", "dl"].map((what) => h(what));
  const chat = h("button", { type: "button", "aria-label": `Chat with ${name}`, onclick: () => onPick(name) }, "Chat");
  return {
    node: h("li", { id: `model ${name}` }, h("div", {}, h("h2", {}, dot, name), why, facts), load, chat),
    show({ protocol, ...card }) {
      const { state, text } = standing(card);
      dot.className = `dot ${state}`;
      chat.hidden = protocol !== "chat";
      why.textContent = chat.hidden ? `${text}; speaks ${protocol}` : text;
      if (!card.replicas) (facts.replaceChildren(), load.replaceChildren());
    },
    /** Facts, as one replica tells them, and the load that all report: every front door hears the same of that. */
    load({ parameters, context_length: context, dtype, device, load: own }, { replicas, load: all }) {
      const known = [
        parameters && `${short(parameters)} parameters`,
        context && `context ${short(context)}`,
        dtype && `${dtype} on ${device}`,
        own && !all && replicas > 1 && "load of one replica",
      ];
      facts.textContent = known.filter(Boolean).join(", ");
      const pairs = loadOf({ ...((replicas === 1 || !all) && own), ...all }).map(([term, value]) => h("div", {}, h("dt", {}, term), h("dd", {}, value)));
      load.replaceChildren(...pairs);
    },
  };
}

function loadOf({ running, waiting, blocks_used, blocks_total, cache_usage = blocks_used / blocks_total, hit_tokens: hit, prompt_tokens: prompt, finished }) {
  const percent = (share) => (share >= 0 ? `${Math.round(100 * share)} %` : undefined);
  const all = { answering: running, waiting, "cache used": percent(cache_usage), "prompt reused": percent(hit / prompt), answered: finished };
  return Object.entries(all).filter(([, value]) => value !== undefined);
}
