// The dialog that picks a model: a search field over a list, worked by keys or by pointer.

import { $, h, on } from "./dom.js";
import { standing } from "./format.js";

/** `refresh()` asks for the models anew; `onPick(name)` hears the choice. */
export function picker(refresh, onPick) {
  const list = $("choices");
  let cards = [];
  let shown = [];
  let at = 0;
  let current;

  function draw() {
    const words = $("search").value.toLowerCase().split(/\s+/);
    shown = cards.filter(({ name }) => words.every((word) => name.toLowerCase().includes(word)));
    list.replaceChildren(...shown.map(option));
    $("no-choice").hidden = shown.length > 0;
    mark(at);
  }

  function option({ name, ...card }, i) {
    const { state, text } = standing(card);
    const attributes = { id: `choice-${i}`, role: "option", onclick: () => pick(name), onpointermove: () => at !== i && mark(i) };
    const what = name === current ? "li.current" : "li";
    return h(what, attributes, h(`span.dot.${state}`), h("span.name", {}, name), h("span.why", {}, text));
  }

  function mark(i) {
    at = Math.min(Math.max(i, 0), shown.length - 1);
    [...list.children].forEach((node, j) => node.setAttribute("aria-selected", j === at));
    $("search").setAttribute("aria-activedescendant", shown.length ? `choice-${at}` : "");
    list.children[at]?.scrollIntoView({ block: "nearest" });
  }

  const markNamed = (name) => mark(shown.findIndex((card) => card.name === name));

  function pick(name) {
    $("picker").close();
    onPick(name);
  }

  on("search", "input", () => ((at = 0), draw()));
  on("search", "keydown", (event) => {
    const step = { ArrowDown: 1, ArrowUp: -1, Enter: 0 }[event.key];
    if (step === undefined || event.isComposing) return;
    event.preventDefault();
    if (step) mark((at + step + shown.length) % shown.length);
    else if (shown[at]) pick(shown[at].name);
  });

  return {
    open(name) {
      if ($("picker").open) return;
      current = name;
      $("search").value = "";
      draw();
      markNamed(name);
      $("picker").showModal();
      refresh();
    },
    /** The models as they are now; an open list follows, with the same one marked. */
    show(found) {
      const marked = shown[at]?.name;
      cards = found;
      draw();
      markNamed(marked);
    },
  };
}
