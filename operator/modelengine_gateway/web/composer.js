// The field that messages are written in: it grows with them, sends on Enter, and makes room for the stop button.

import { $ } from "./dom.js";

/** `onSend(text)` says whether it took the text; only then is the field emptied. */
export function composer(onSend, onStop) {
  const entry = $("entry");

  function fit() {
    $("send").disabled = !entry.value.trim();
    entry.style.height = "auto";
    entry.style.height = `${entry.scrollHeight}px`;
  }

  function send(event) {
    event.preventDefault();
    const text = entry.value.trim();
    if (!text || $("send").hidden || !onSend(text)) return;
    entry.value = "";
    fit();
  }

  $("composer").addEventListener("submit", send);
  $("stop").addEventListener("click", onStop);
  entry.addEventListener("input", fit);
  entry.addEventListener("keydown", (event) => event.key === "Enter" && !event.shiftKey && !event.isComposing && send(event));
  fit();

  /** What is typed while an answer comes stays. */
  return function show(isAnswering) {
    const hadFocus = [$("send"), $("stop")].includes(document.activeElement);
    $("send").hidden = isAnswering;
    $("stop").hidden = !isAnswering;
    if (hadFocus) entry.focus();
  };
}
