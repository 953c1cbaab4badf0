// The list of conversations beside the chat, the drawer that it is on a narrow screen, and the theme.

import { title } from "./conversation.js";
import { $, h, iconButton } from "./dom.js";

const NARROW = matchMedia("(max-width: 860px)");
const DARK = matchMedia("(prefers-color-scheme: dark)");

/** `does` is what the buttons of a conversation do: {rename(id, name), remove(id), save(id)}. */
export function side(does) {
  function toggle(isOpen) {
    const wasOpen = document.body.classList.toggle("with-drawer", isOpen) !== isOpen || !$("scrim").hidden;
    $("side").inert = NARROW.matches && !isOpen;
    $("stage").inert = NARROW.matches && isOpen;
    $("scrim").hidden = !isOpen;
    $("open-side").setAttribute("aria-expanded", isOpen);
    if (isOpen) $("close-side").focus();
    else if (wasOpen && NARROW.matches) $("open-side").focus();
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

  $("open-side").addEventListener("click", () => toggle(true));
  $("close-side").addEventListener("click", () => toggle(false));
  $("scrim").addEventListener("click", () => toggle(false));
  $("side").addEventListener("keydown", (event) => event.key === "Escape" && NARROW.matches && toggle(false));
  NARROW.addEventListener("change", () => toggle(false));
  toggle(false);

  return {
    /** After somebody went elsewhere by it, a drawer is in the way. */
    leave: () => $("scrim").hidden || toggle(false),
    show(conversations, currentId, running) {
      // Drawn anew, it would take away the field that somebody is typing in.
      if ($("conversations").querySelector("input") === document.activeElement && document.activeElement) return;
      $("none-kept").hidden = conversations.length > 0;
      $("conversations").replaceChildren(...conversations.map((one) => item(one, currentId, running)));
    },
  };
}

/** Goes from dark to light and back; until somebody does, the system's theme is shown. */
export function themeButton(store) {
  const root = document.documentElement;
  const other = () => ((root.dataset.theme ?? (DARK.matches ? "dark" : "light")) === "dark" ? "light" : "dark");
  const say = () => ($("theme").textContent = other() === "dark" ? "Dark theme" : "Light theme");
  $("theme").addEventListener("click", () => {
    store.choose("theme", (root.dataset.theme = other()));
    say();
  });
  DARK.addEventListener("change", say);
  say();
}
