// Runs the conversations: one is shown, any number may be answering.

import * as conversations from "./conversation.js";
import { ServerError } from "./lines.js";

// How often an answer that is still coming is kept, in case the page goes away.
const KEEP_EVERY_MS = 2000;

/** `hears` is told {changed(), part(answer), ended(answer), full()}; parts and ends only of the one that is shown. */
export function chats(api, store, hears) {
  // What stops each answer, by its conversation's id, and those conversations as they are now.
  const runs = new Map();
  const open = new Map();
  let current = conversations.fresh(newId(), null, Date.now());

  const isAnswering = () => runs.has(current.id);
  const find = (id) => open.get(id) ?? (id === current.id && current.turns.length ? current : store.read(id));
  const keep = (one) => store.save(one) || hears.full();

  function put(one) {
    if (one.id === current.id) current = one;
    if (runs.has(one.id)) open.set(one.id, one);
  }

  async function answer(asked) {
    const { id } = asked;
    const controller = new AbortController();
    runs.set(id, controller);
    put(asked);
    keep(asked);
    hears.changed();
    let said = asked.turns.at(-1);
    let keptAt = Date.now();
    const clock = { sentAt: performance.now(), firstAt: 0, lastAt: 0, tokens: 0 };
    try {
      for await (const part of api.chat(conversations.request(asked), controller.signal)) {
        clock.lastAt = performance.now();
        clock.firstAt ||= clock.lastAt;
        clock.tokens = part.response_length ?? clock.tokens;
        said = conversations.takePart(said, part);
        put(conversations.replaceLast(open.get(id), said));
        if (id === current.id) hears.part(said);
        if (Date.now() - keptAt > KEEP_EVERY_MS) (keep(open.get(id)), (keptAt = Date.now()));
      }
    } catch (failure) {
      said = controller.signal.aborted ? conversations.stopped(said) : conversations.failed(said, asError(failure));
    }
    finish(id, clock.firstAt ? conversations.measured(said, clock) : said);
  }

  function finish(id, said) {
    const ended = open.get(id) && conversations.replaceLast(open.get(id), said, Date.now());
    runs.delete(id);
    open.delete(id);
    // It was deleted meanwhile.
    if (!ended) return;
    put(ended);
    keep(ended);
    if (id === current.id) hears.ended(said);
    hears.changed();
  }

  return {
    isAnswering,
    current: () => current,
    running: runs,
    all: () => store.all().map((one) => open.get(one.id) ?? one),
    find,
    start: () => (current = conversations.fresh(newId(), current.model, Date.now())),
    /** Shows a kept conversation; false where there is none of this id. */
    show(id) {
      const found = find(id);
      if (found) current = runs.has(id) ? found : conversations.settled(found);
      return Boolean(found);
    },
    send: (text) => isAnswering() || answer(conversations.ask(current, text, Date.now())),
    /** Asks the last question again, of the model that is chosen now. */
    retry: () => isAnswering() || answer(conversations.reply(conversations.rewind(current, -1), Date.now())),
    edit: (index, text) =>
      isAnswering() || answer(conversations.ask(conversations.rewind(current, index), text, Date.now())),
    stop: () => runs.get(current.id)?.abort(),
    /** Changes the name of a conversation, or the model, system prompt or options of the shown one. */
    change(fields, id = current.id) {
      const changed = { ...(id === current.id ? current : find(id)), ...fields };
      put(changed);
      if (changed.turns.length) keep(changed);
      hears.changed();
    },
    /** Forgets it, and gives it back for a change of mind. */
    remove(id) {
      const removed = conversations.settled(find(id));
      runs.get(id)?.abort();
      open.delete(id);
      store.remove(id);
      return removed;
    },
    /** Another tab changed the one that is shown. */
    reload: () => (current = store.read(current.id) ?? current),
    restore: (removed) => (keep(removed), hears.changed()),
    /** The page goes away: keeps what has come. */
    keepAll: () => open.forEach(keep),
  };
}

/** `crypto.randomUUID` is there only on https and on this machine. */
const newId = () => Array.from(crypto.getRandomValues(new Uint8Array(8)), (byte) => byte.toString(16).padStart(2, "0")).join("");

function asError(failure) {
  if (failure instanceof ServerError) return failure;
  console.error(failure);
  return new ServerError("page_failed", `The page failed at this answer: ${failure.message}`);
}
