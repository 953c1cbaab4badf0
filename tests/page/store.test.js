import assert from "node:assert/strict";
import test from "node:test";

import { NOWHERE, keepIn } from "./web/store.js";

/** A Storage with room for so many characters. */
function storage(room = Infinity) {
  const kept = new Map();
  return {
    get length() {
      return kept.size;
    },
    key: (i) => [...kept.keys()][i] ?? null,
    getItem: (key) => kept.get(key) ?? null,
    removeItem: (key) => void kept.delete(key),
    setItem(key, value) {
      const others = [...kept].filter(([other]) => other !== key).reduce((sum, [, text]) => sum + text.length, 0);
      if (others + value.length > room) throw new DOMException("full", "QuotaExceededError");
      kept.set(key, value);
    },
  };
}

const one = (id, updated, text = "") => ({ id, updated, turns: [{ role: "user", text }] });

test("what is kept comes back, the newest first", () => {
  const store = keepIn(storage());
  for (const kept of [one("a", 1), one("b", 3), one("c", 2)]) assert.equal(store.save(kept), true);
  assert.deepEqual(store.all().map(({ id }) => id), ["b", "c", "a"]);
  assert.deepEqual(store.read("c"), one("c", 2));
  store.remove("c");
  assert.equal(store.read("c"), null);
});

test("where there is no room it says so, and what was kept stays", () => {
  const store = keepIn(storage(200));
  assert.equal(store.save(one("a", 1, "short")), true);
  assert.equal(store.save(one("a", 2, "x".repeat(500))), false);
  assert.equal(store.read("a").turns[0].text, "short");
});

test("what others keep, or what can't be read, is passed over and stays", () => {
  const kept = storage();
  for (const value of ["{", "null", '{"id":"x"}', '{"id":"other","turns":[]}']) kept.setItem(`modelengine/conversation/${value}`, value);
  kept.setItem("something", "else");
  assert.deepEqual(keepIn(kept).all(), []);
  assert.equal(kept.length, 5);
});

test("a browser that keeps nothing is no error", () => {
  const store = keepIn(NOWHERE);
  store.save(one("a", 1));
  assert.deepEqual([store.all(), store.read("a"), store.choice("theme")], [[], null, null]);
});
