// The list of conversations beside the chat, and the drawer that it is on a narrow screen.

import { title } from "./conversation.js";
import { $, h, iconButton, on } from "./dom.js";

const NARROW = matchMedia("(max-width: 860px)");

/** `does` is what the buttons of a conversation do: {rename(id, name), remove(id), save(id)}. */
export function side(does) {
  function toggle(isOpen) {
    const wasOpen = !$("scrim").hidden;
    document.body.classList.toggle("with-drawer", isOpen);
    $("scrim").hidden = !isOpen;
    $("side").inert = NARROW.matches && !isOpen;
    $("stage").inert = isOpen;
    $("open-side").setAttribute("aria-expanded", isOpen);
    if (isOpen) $("close-side").focus();
    else if (wasOpen) $("open-side").focus();
  }

  function item(conversation, currentId, running) {
    const { id } = conversation;
    const name = title(conversation);
    const link = h("a", { href: `#/chat/${id}`, "aria-current": id === currentId ? "page" : null }, h("span", {}, name));
    if (running.has(id)) link.append(h("span.running", { role: "img", "aria-label": "answering" }));
    const deeds = [
      iconButton("edit", `Rename “${name}”`, () => rename(node, conversation)),
      iconButton("export", `Save “${name}” as a file`, () => does.save(id)),
      iconButton("trash", `Delete “${name}”`, () => does.remove(id)),
    ];
    const node = h("li", {}, link, h("span.deeds", {}, deeds));
    return node;
  }

  function rename(node, conversation) {
    const field = h("input", { "aria-label": "Name of the conversation", maxlength: 120 });
    field.value = title(conversation);
    field.addEventListener("keydown", (event) => {
      if (event.key === "Escape") field.value = conversation.name;
      if (["Enter", "Escape"].includes(event.key) && !event.isComposing) (event.stopPropagation(), field.blur());
    });
    field.addEventListener("blur", () => does.rename(conversation.id, field.value.trim()));
    node.replaceChildren(field);
    field.select();
  }

  on("open-side", "click", () => toggle(true));
  for (const id of ["close-side", "scrim"]) on(id, "click", () => toggle(false));
  on("side", "keydown", (event) => {
    // Where it is no drawer, the key is left to stop the answer.
    if (event.key === "Escape" && !$("scrim").hidden) (event.stopPropagation(), toggle(false));
  });
  NARROW.addEventListener("change", () => toggle(false));
  toggle(false);

  return {
    /** After somebody went elsewhere by it, a drawer is in the way. */
    leave: () => toggle(false),
    show(conversations, currentId, running) {
      // Drawn anew, it would take away the field that somebody is typing in.
      if ($("conversations").querySelector("input:focus")) return;
      $("none-kept").hidden = conversations.length > 0;
      $("conversations").replaceChildren(...conversations.map((one) => item(one, currentId, running)));
    },
  };
}
