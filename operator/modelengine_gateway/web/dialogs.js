// The dialogs but the picker: instructions and options of a conversation, and the API key.

import { $ } from "./dom.js";

const NUMBERS = ["temperature", "top_p", "max_new_tokens", "seed"];
const KEY = "modelengine/key";

export function closeByBackdrop(dialog) {
  dialog.addEventListener("pointerdown", (event) => event.target === dialog && dialog.close());
}

/** `onChange({system, options})` hears what stands in the fields, once the dialog closes. */
export function tune(onChange) {
  function fill({ system, options }) {
    $("system").value = system;
    for (const name of NUMBERS) $(name).value = options[name] ?? "";
  }

  $("reset").addEventListener("click", () => fill({ system: "", options: {} }));
  $("tune").addEventListener("close", () => {
    const given = NUMBERS.filter((name) => $(name).value !== "" && $(name).validity.valid);
    onChange({ system: $("system").value, options: Object.fromEntries(given.map((name) => [name, $(name).valueAsNumber])) });
  });
  return (conversation) => (fill(conversation), $("tune").showModal());
}

/** `kept` and `passing` are Storages: the first outlives the tab. */
export function apiKey(kept, passing) {
  let resolve = () => {};
  const value = () => passing.getItem(KEY) ?? kept.getItem(KEY);

  $("key").addEventListener("close", () => {
    const isGiven = $("key").returnValue === "use";
    if (isGiven) {
      const key = $("key-field").value.trim();
      for (const storage of [kept, passing]) storage.removeItem(KEY);
      if (key) ($("key-keep").checked ? kept : passing).setItem(KEY, key);
    }
    resolve(isGiven && value() !== null);
  });

  return {
    value,
    /** Asks a person for a key; resolves to whether one was given. */
    ask(why) {
      if (why) $("key-note").textContent = why;
      $("key-field").value = value() ?? "";
      $("key-keep").checked = kept.getItem(KEY) !== null;
      $("key").returnValue = "";
      if (!$("key").open) $("key").showModal();
      return new Promise((resolved) => (resolve = resolved));
    },
  };
}
