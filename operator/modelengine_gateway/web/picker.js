// The dialog that picks a model: a search field over a list, worked by keys or by pointer.

import { $, h } from "./dom.js";
import { standing } from "./format.js";

/** `refresh()` asks for the models anew; `onPick(name)` hears the choice. */
export function picker(refresh, onPick) {
  const [dialog, search, list] = [$("picker"), $("search"), $("choices")];
  let cards = [];
  let shown = [];
  let at = 0;
  let current = null;

  function draw() {
    const words = search.value.toLowerCase().split(/\s+/);
    shown = cards.filter(({ protocol, name }) => protocol === "chat" && words.every((word) => name.toLowerCase().includes(word)));
    list.replaceChildren(...shown.map(option));
    $("no-choice").hidden = shown.length > 0;
    mark(Math.min(at, shown.length - 1));
  }

  function option(card, i) {
    const { state, text } = standing(card);
    const attributes = { id: `choice-${i}`, role: "option", onclick: () => pick(card), onpointermove: () => at !== i && mark(i) };
    const what = card.name === current ? "li.current" : "li";
    return h(what, attributes, h(`span.dot.${state}`), h("span.name", {}, card.name), h("span.why", {}, text));
  }

  function mark(i) {
    at = Math.max(i, 0);
    [...list.children].forEach((node, j) => node.setAttribute("aria-selected", j === at));
    search.setAttribute("aria-activedescendant", shown.length ? `choice-${at}` : "");
    list.children[at]?.scrollIntoView({ block: "nearest" });
  }

  function pick(card) {
    dialog.close();
    onPick(card.name);
  }

  search.addEventListener("input", () => ((at = 0), draw()));
  search.addEventListener("keydown", (event) => {
    const step = { ArrowDown: 1, ArrowUp: -1, Enter: 0 }[event.key];
    if (step === undefined || event.isComposing) return;
    event.preventDefault();
    if (step) mark((at + step + shown.length) % shown.length);
    else if (shown[at]) pick(shown[at]);
  });

  return {
    open(name) {
      if (dialog.open) return;
      current = name;
      search.value = "";
      draw();
      mark(shown.findIndex((card) => card.name === name));
      dialog.showModal();
      refresh();
    },
    /** The models as they are now; an open list follows, with the same one marked. */
    show(found) {
      const marked = shown[at]?.name;
      cards = found;
      draw();
      mark(shown.findIndex((card) => card.name === marked));
    },
  };
}
