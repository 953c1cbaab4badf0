// What the browser keeps: each conversation under a key of its own, and a few choices. Knows only the Storage interface.

const PREFIX = "modelengine/";
const CONVERSATION = `${PREFIX}conversation/`;

/** The id of the conversation under this key of the storage; null where it is another thing's. */
export const idOf = (key) => (key?.startsWith(CONVERSATION) ? key.slice(CONVERSATION.length) : null);

export function keepIn(storage) {
  const read = (id) => {
    try {
      const found = JSON.parse(storage.getItem(CONVERSATION + id));
      return found?.id === id && Array.isArray(found.turns) ? found : null;
    } catch {
      return null;
    }
  };
  /** False where the browser has no room left; what it kept before stays. */
  const write = (key, value) => {
    try {
      storage.setItem(key, value);
      return true;
    } catch {
      return false;
    }
  };
  return {
    read,
    save: (conversation) => write(CONVERSATION + conversation.id, JSON.stringify(conversation)),
    remove: (id) => storage.removeItem(CONVERSATION + id),
    /** Every conversation that can be read, the one that changed last first. */
    all() {
      const ids = Array.from({ length: storage.length }, (_, i) => idOf(storage.key(i)));
      return ids.filter(Boolean).map(read).filter(Boolean).sort((a, b) => b.updated - a.updated);
    },
    choice: (name) => storage.getItem(PREFIX + name),
    /** Null forgets it. */
    choose: (name, value) => (value === null ? storage.removeItem(PREFIX + name) : write(PREFIX + name, value)),
  };
}

/** Stands in where a browser lets a page keep nothing: all of it ends with the page. */
export function forgetful() {
  const kept = new Map();
  return {
    get length() {
      return kept.size;
    },
    key: (i) => [...kept.keys()][i] ?? null,
    getItem: (key) => kept.get(key) ?? null,
    setItem: (key, value) => void kept.set(key, value),
    removeItem: (key) => void kept.delete(key),
  };
}
