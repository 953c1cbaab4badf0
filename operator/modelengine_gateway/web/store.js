// What the browser keeps: each conversation under a key of its own, and a few choices. Knows only the Storage interface.

const PREFIX = "modelengine/";
const CONVERSATION = `${PREFIX}conversation/`;

/** False where the browser has no room left; what it kept before stays. */
export function write(storage, key, value) {
  try {
    storage.setItem(key, value);
    return true;
  } catch {
    return false;
  }
}

export function keepIn(storage) {
  function read(key) {
    try {
      const found = JSON.parse(storage.getItem(key));
      return key === CONVERSATION + found.id && Array.isArray(found.turns) ? found : null;
    } catch {
      return null;
    }
  }

  return {
    read: (id) => read(CONVERSATION + id),
    /** As `write`. */
    save: (conversation) => write(storage, CONVERSATION + conversation.id, JSON.stringify(conversation)),
    remove: (id) => storage.removeItem(CONVERSATION + id),
    /** Every conversation that can be read, the one that changed last first. */
    all() {
      const found = Array.from({ length: storage.length }, (_, i) => read(storage.key(i)));
      return found.filter(Boolean).sort((a, b) => b.updated - a.updated);
    },
    choice: (name) => storage.getItem(PREFIX + name),
    choose: (name, value) => write(storage, PREFIX + name, value),
  };
}

/** Stands in where a browser lets a page keep nothing. */
export const NOWHERE = { length: 0, getItem: () => null, setItem() {}, removeItem() {} };
