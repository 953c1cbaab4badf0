// Runs the conversations: one is shown, any number may be answering.

import * as conversations from "./conversation.js";

/** `hears` is told {changed(), part(answer), ended(answer), full()}; parts and ends only of the one that is shown. */
export function chats(api, store, hears) {
  // Those that are answering, by their ids, and what stops each.
  const open = new Map();
  const stops = new Map();
  let current = conversations.fresh(newId(), null);

  const isAnswering = () => open.has(current.id);
  const find = (id) => (id === current.id ? current : (open.get(id) ?? store.read(id)));
  const keep = (one) => store.save(one) || hears.full();

  function put(one) {
    if (one.id === current.id) current = one;
    if (open.has(one.id)) open.set(one.id, one);
  }

  async function answer(asked) {
    const { id } = asked;
    const stop = new AbortController();
    open.set(id, asked);
    stops.set(id, stop);
    put(asked);
    keep(asked);
    hears.changed();
    let said = asked.turns.at(-1);
    const clock = { sentAt: performance.now(), firstAt: 0, lastAt: 0, tokens: 0 };
    try {
      for await (const part of api.chat(conversations.request(asked), stop.signal)) {
        if (!open.has(id)) break;
        clock.lastAt = performance.now();
        clock.firstAt ||= clock.lastAt;
        clock.tokens = part.response_length ?? clock.tokens;
        said = conversations.takePart(said, part);
        put(conversations.replaceLast(open.get(id), said));
        if (id === current.id) hears.part(said);
      }
    } catch (failure) {
      const error = { code: "page_failed", message: failure.message, ...failure };
      said = stop.signal.aborted ? conversations.stopped(said) : conversations.failed(said, error);
    }
    finish(id, clock.firstAt ? conversations.measured(said, clock) : said);
  }

  function finish(id, said) {
    const asked = open.get(id);
    open.delete(id);
    stops.delete(id);
    // It was deleted meanwhile, or the page is going away.
    if (!asked) return;
    const ended = conversations.replaceLast(asked, said);
    put(ended);
    keep(ended);
    if (id === current.id) hears.ended(said);
    hears.changed();
  }

  return {
    isAnswering,
    current: () => current,
    answering: open,
    all: () => store.all().map((one) => open.get(one.id) ?? one),
    find,
    start: () => (current = conversations.fresh(newId(), current.model)),
    /** Shows a kept conversation; false where there is none of this id. */
    show(id) {
      const found = find(id);
      if (found) current = open.has(id) ? found : conversations.settled(found);
      return Boolean(found);
    },
    send: (text) => isAnswering() || answer(conversations.ask(current, text)),
    /** Asks the last question again, of the model that is chosen now. */
    retry: () => isAnswering() || answer(conversations.reply(conversations.rewind(current, -1))),
    edit: (index, text) => isAnswering() || answer(conversations.ask(conversations.rewind(current, index), text)),
    stop: () => stops.get(current.id)?.abort(),
    /** Changes the name of a conversation, or the model, system prompt or options of the shown one. */
    change(fields, id = current.id) {
      const found = find(id);
      // Another tab has deleted it.
      if (!found) return hears.changed();
      const changed = { ...found, ...fields };
      put(changed);
      if (changed.turns.length) keep(changed);
      return hears.changed();
    },
    /** Forgets it, and gives it back for a change of mind; null where another tab was first. */
    remove(id) {
      const found = find(id);
      if (!found) return null;
      const removed = conversations.settled(found);
      if (open.delete(id)) stops.get(id).abort();
      store.remove(id);
      return removed;
    },
    restore: (removed) => (keep(removed), hears.changed()),
    /** The page goes away: keeps what has come, and not how it ends. */
    leave: () => (open.forEach(keep), open.clear()),
  };
}

/** `crypto.randomUUID` is there only on https and on this machine. */
const newId = () => crypto.getRandomValues(new Uint32Array(2)).join("-");
