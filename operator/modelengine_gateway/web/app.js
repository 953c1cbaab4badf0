// Wires the page: its parts, the two views by the address's hash, and the keys that work everywhere.

import { connect } from "./api.js";
import { chats } from "./chat.js";
import { composer } from "./composer.js";
import { title } from "./conversation.js";
import { apiKey, closeByBackdrop, tune } from "./dialogs.js";
import { $, announce, button, h, toast } from "./dom.js";
import { examples } from "./examples.js";
import { standing } from "./format.js";
import { modelsView } from "./models.js";
import { picker } from "./picker.js";
import { side, themeButton } from "./side.js";
import { forgetful, idOf, keepIn } from "./store.js";
import { transcript } from "./transcript.js";

const REFRESH_MS = 10_000;
const FULL = "The browser has no room left: this conversation is not kept.";

const store = keepIn(storage("localStorage"));
const key = apiKey(storage("localStorage"), storage("sessionStorage"));
const api = connect(document.baseURI, key.value, key.ask);
const turns = transcript({ retry: () => chat.retry(), edit: (index, text) => chat.edit(index, text) });
const chat = chats(api, store, { changed: show, part: turns.update, ended, full });
const showComposer = composer(send, chat.stop);
const models = picker(refresh, pick);
const openTune = tune((fields) => chat.change(fields));
const toggleModels = modelsView(api, takeModels, (name) => (goTo("#/"), pick(name)));
const beside = side({ rename: (id, name) => chat.change({ name }, id), remove, save });
let cards = null;
let drawn = null;

function storage(name) {
  try {
    window[name].getItem("modelengine/theme");
    return window[name];
  } catch {
    return forgetful();
  }
}

/** Draws all but what streams; the turns only where they are others than those drawn. */
function show() {
  const current = chat.current();
  const isEmpty = !current.turns.length;
  const shape = `${current.id} ${current.turns.length} ${current.turns.at(-1)?.state === "open"}`;
  if (shape !== drawn) turns.show(current);
  drawn = shape;
  $("welcome").hidden = !isEmpty;
  $("chat-view").classList.toggle("answering", chat.isAnswering());
  $("chat-title").textContent = title(current);
  document.title = `${$("chat-view").hidden ? "Models" : title(current)} · ModelEngine`;
  $("tuned").hidden = !current.system.trim() && !Object.keys(current.options).length;
  showComposer(chat.isAnswering());
  beside.show(chat.all(), $("chat-view").hidden ? null : current.id, chat.running);
  showModel();
}

function showModel() {
  const { model } = chat.current();
  const { state, text } = standing(cards?.find((card) => card.name === model));
  $("model-dot").className = `dot ${cards ? state : ""}`;
  $("model-name").textContent = model ?? "Pick a model";
  $("model-state").textContent = cards && model ? text : "";
  if (cards === null || $("welcome").dataset.of === `${model}`) return;
  $("welcome").dataset.of = model;
  $("welcome-title").replaceChildren(...(model ? ["Ask ", h("em", {}, model), " something."] : ["No model answers here yet."]));
  $("welcome-text").textContent = model
    ? "The conversation stays in this browser."
    : "Start an engine with “modelengine up”, or apply a ModelEngine. It appears here once it is known.";
  $("examples").replaceChildren(...(model ? examples(model) : []).map((one) => h("li", {}, button(one, () => send(one)))));
}

function send(text) {
  const { id, model } = chat.current();
  if (!model) models.open();
  else {
    history.replaceState(null, "", `#/chat/${id}`);
    announce(`${model} is answering`);
    chat.send(text);
  }
  return Boolean(model);
}

function ended(answer) {
  turns.finish(answer);
  const { model, state, text, error } = answer;
  announce({ done: `${model} said: ${text.slice(0, 1500)}`, stopped: "Stopped", failed: `It failed: ${error?.message}` }[state]);
  if (state === "failed") refresh();
}

function full() {
  toast(FULL, "Save it as a file", () => save(chat.current().id));
}

function pick(name) {
  store.choose("model", name);
  chat.change({ model: name });
  $("entry").focus();
}

function remove(id) {
  const removed = chat.remove(id);
  if (id === chat.current().id) (chat.start(), goTo("#/"));
  show();
  toast(`Deleted “${title(removed)}”.`, "Undo", () => chat.restore(removed));
}

function save(id) {
  const conversation = chat.find(id);
  const url = URL.createObjectURL(new Blob([JSON.stringify(conversation, null, 2)], { type: "application/json" }));
  h("a", { href: url, download: `${title(conversation).replace(/[^\p{L}\p{N}]+/gu, "-")}.json` }).click();
  setTimeout(() => URL.revokeObjectURL(url), 1000);
}

async function refresh() {
  try {
    takeModels(await api.models());
  } catch (failure) {
    $("model-dot").className = "dot gone";
    $("model-state").textContent = failure.message;
  }
}

function takeModels(found) {
  cards = found;
  const names = found.filter(({ protocol }) => protocol === "chat").sort((a, b) => b.replicas - a.replicas).map(({ name }) => name);
  const wanted = names.includes(store.choice("model")) ? store.choice("model") : names[0];
  if (!chat.current().model && wanted) chat.change({ model: wanted });
  models.show(found);
  showModel();
}

function goTo(hash) {
  if (location.hash === hash) route();
  else location.hash = hash;
}

function route() {
  const [view, id] = location.hash.split("/").slice(1);
  const isModels = view === "models";
  $("chat-view").hidden = $("bar-chat").hidden = isModels;
  $("models-view").hidden = $("bar-models").hidden = !isModels;
  $("to-models").toggleAttribute("aria-current", isModels);
  toggleModels();
  if (view === "chat" && !chat.show(id)) goTo("#/");
  if (!view && chat.current().turns.length) chat.start();
  beside.leave();
  show();
  if (!isModels && matchMedia("(hover: hover)").matches) $("entry").focus();
}

addEventListener("hashchange", route);
addEventListener("pagehide", chat.keepAll);
// Another tab changed a conversation.
addEventListener("storage", ({ key: changed }) => {
  const id = idOf(changed);
  if (!id || chat.running.has(id)) return;
  if (id === chat.current().id) (chat.reload(), (drawn = null));
  show();
});
addEventListener("keydown", (event) => {
  if ((event.ctrlKey || event.metaKey) && event.key.toLowerCase() === "k") (event.preventDefault(), models.open(chat.current().model));
  if (event.key === "Escape" && !document.querySelector("dialog[open]")) chat.stop();
});
$("model-button").addEventListener("click", () => models.open(chat.current().model));
$("tune-button").addEventListener("click", () => openTune(chat.current()));
$("key-button").addEventListener("click", () => key.ask());
$("to-new").addEventListener("click", (event) => (event.preventDefault(), goTo("#/")));
document.querySelectorAll("dialog").forEach(closeByBackdrop);

themeButton(store);
route();
refresh();
setInterval(() => document.hidden || refresh(), REFRESH_MS);
