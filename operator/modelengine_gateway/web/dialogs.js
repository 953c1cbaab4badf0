// The dialogs but the picker: instructions and options of a conversation, and the API key.

import { $, on } from "./dom.js";
import { write } from "./store.js";

const NUMBERS = ["temperature", "top_p", "max_new_tokens", "seed"];
const KEY = "modelengine/key";

/** `onChange({system, options})` hears what stands in the fields, once the dialog closes. */
export function tune(onChange) {
  function fill({ system, options }) {
    $("system").value = system;
    for (const name of NUMBERS) $(name).value = options[name] ?? "";
  }

  on("reset", "click", () => fill({ system: "", options: {} }));
  on("tune", "close", () => {
    const given = NUMBERS.map($).filter((field) => field.value !== "" && field.validity.valid);
    const options = Object.fromEntries(given.map(({ id, valueAsNumber }) => [id, valueAsNumber]));
    onChange({ system: $("system").value, options });
  });
  return (conversation) => (fill(conversation), $("tune").showModal());
}

/** `kept` and `passing` are Storages: the first outlives the tab. */
export function apiKey(kept, passing) {
  const note = $("key-note").textContent;
  let resolve = () => {};
  // What was given last: a browser may keep nothing, or have no room left.
  let held;
  const value = () => held ?? passing.getItem(KEY) ?? kept.getItem(KEY);

  on("key", "close", () => {
    const isGiven = $("key").returnValue === "use";
    if (isGiven) {
      held = $("key-field").value.trim();
      for (const storage of [kept, passing]) storage.removeItem(KEY);
      const storage = $("key-keep").checked ? kept : passing;
      if (held) write(storage, KEY, held);
    }
    resolve(isGiven && held !== "");
  });

  return {
    value,
    /** Asks a person for a key; resolves to whether one was given. */
    ask(why) {
      $("key-note").textContent = why ?? note;
      $("key-field").value = value() ?? "";
      $("key-keep").checked = kept.getItem(KEY) !== null;
      $("key").returnValue = "";
      if (!$("key").open) $("key").showModal();
      return new Promise((resolved) => (resolve = resolved));
    },
  };
}
