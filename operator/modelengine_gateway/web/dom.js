// Makes and finds elements. Text only ever becomes text nodes: nothing on this page is read as HTML.

export const $ = (id) => document.getElementById(id);

export const on = (id, event, does) => $(id).addEventListener(event, does);

/** `h("p.note", {title: "…", onclick}, children)`; what is null or false is left out. */
export function h(what, attributes, ...children) {
  const [tag, ...classes] = what.split(".");
  const node = document.createElement(tag);
  node.className = classes.join(" ");
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (value !== null) node.setAttribute(name, value);
  }
  node.append(...children.flat().filter((child) => child !== null && child !== false));
  return node;
}

export function icon(name) {
  const [svg, use] = ["svg", "use"].map((tag) => document.createElementNS("http://www.w3.org/2000/svg", tag));
  svg.setAttribute("aria-hidden", "true");
  use.setAttribute("href", `#i-${name}`);
  svg.append(use);
  return svg;
}

export const iconButton = (name, label, onclick) =>
  h("button.icon", { type: "button", "aria-label": label, title: label, onclick }, icon(name));

export const button = (text, onclick, what = "button") => h(what, { type: "button", onclick }, text);

export function copyButton(text, label) {
  const made = iconButton("copy", label, async () => {
    await copy(text());
    made.replaceChildren(icon("check"));
    announce("Copied");
    setTimeout(() => made.replaceChildren(icon("copy")), 1500);
  });
  return made;
}

/** By the old way where a page may not: anywhere but on https and on this machine. */
async function copy(text) {
  if (navigator.clipboard) return navigator.clipboard.writeText(text);
  const field = h("textarea.unseen");
  field.value = text;
  document.body.append(field);
  field.select();
  document.execCommand("copy");
  return field.remove();
}

/** Says it to those who listen instead of looking. */
export const announce = (text) => ($("said").textContent = text);

let hiding;

/** A line at the bottom for some seconds, with one deed that it offers. */
export function toast(text, deed, does) {
  const hide = () => ($("toast").hidden = true);
  $("toast").replaceChildren(text, button(deed, () => (hide(), does())));
  $("toast").hidden = false;
  clearTimeout(hiding);
  hiding = setTimeout(hide, 8000);
}

/** Whether a key means that what was typed is complete; not while a Chinese or Japanese word is being chosen. */
export const isEnter = (event) => event.key === "Enter" && !event.shiftKey && !event.isComposing;
