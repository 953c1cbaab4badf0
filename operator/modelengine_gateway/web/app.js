// Wires the page: its parts, the two views by the address's hash, and the keys that work everywhere.

import { connect } from "./api.js";
import { chats } from "./chat.js";
import { title } from "./conversation.js";
import { apiKey, tune } from "./dialogs.js";
import { $, announce, button, h, isEnter, on, toast } from "./dom.js";
import { examples, standing } from "./format.js";
import { modelsView } from "./models.js";
import { picker } from "./picker.js";
import { side } from "./side.js";
import { NOWHERE, keepIn } from "./store.js";
import { transcript } from "./transcript.js";

const REFRESH_MS = 10_000;

const kept = storage("localStorage");
const store = keepIn(kept);
const key = apiKey(kept, storage("sessionStorage"));
const api = connect(document.baseURI, key.value, key.ask);
const turns = transcript({ retry: () => chat.retry(), edit: (index, text) => chat.edit(index, text) });
const chat = chats(api, store, { changed: show, part: turns.update, ended, full });
const models = picker(refresh, pick);
const openTune = tune((fields) => chat.change(fields));
const toggleModels = modelsView(api, takeModels, (name) => (goTo("#/"), pick(name)));
const beside = side({ rename: (id, name) => chat.change({ name }, id), remove, save });
let cards;
let drawn;
let wasAnswering;

function storage(name) {
  try {
    return window[name] ?? NOWHERE;
  } catch {
    return NOWHERE;
  }
}

/** Draws all but what streams; the turns only where they are others than those drawn, so that a reader keeps the place. */
function show() {
  const current = chat.current();
  const isAnswering = chat.isAnswering();
  const shape = `${current.id} ${current.turns.length}`;
  if (shape !== drawn || (isAnswering && !wasAnswering)) turns.show(current.turns);
  [drawn, wasAnswering] = [shape, isAnswering];
  $("welcome").hidden = current.turns.length > 0;
  $("chat-view").classList.toggle("answering", isAnswering);
  if (document.activeElement === $(isAnswering ? "send" : "stop")) $("entry").focus();
  $("send").hidden = isAnswering;
  $("stop").hidden = !isAnswering;
  $("chat-title").textContent = title(current);
  document.title = `${$("chat-view").hidden ? "Models" : title(current)} · ModelEngine`;
  $("tuned").hidden = !current.system.trim() && !Object.keys(current.options).length;
  beside.show(chat.all(), $("chat-view").hidden ? null : current.id, chat.answering);
  showModel();
}

function showModel() {
  const { model } = chat.current();
  const { state, text } = standing(cards?.find((card) => card.name === model));
  $("model-dot").className = `dot ${cards ? state : ""}`;
  $("model-name").textContent = model ?? "Pick a model";
  $("model-state").textContent = cards && model ? text : "";
  if (!cards || $("welcome").dataset.of === `${model}`) return;
  $("welcome").dataset.of = model;
  $("welcome-title").replaceChildren(...(model ? ["Ask ", h("em", {}, model), " something."] : ["No model answers here yet."]));
  $("welcome-text").textContent = model
    ? "The conversation is kept in this browser only."
    : "Start one with modelengine up, or apply a ModelEngine.";
  $("examples").replaceChildren(...(model ? examples(model) : []).map((one) => h("li", {}, button(one, () => send(one)))));
}

async function send(text) {
  // Somebody was faster than the list of models.
  if (!chat.current().model) await refresh();
  const { id, model } = chat.current();
  if (!model) return models.open();
  history.replaceState(null, "", `#/chat/${id}`);
  announce(`${model} is answering`);
  $("entry").value = "";
  fit();
  return chat.send(text);
}

/** The field is as high as its text. */
function fit() {
  const entry = $("entry");
  $("send").disabled = !entry.value.trim();
  entry.style.height = "auto";
  entry.style.height = `${entry.scrollHeight + 2}px`;
}

function submit(event) {
  event.preventDefault();
  const text = $("entry").value.trim();
  if (text && !chat.isAnswering()) send(text);
}

function ended(answer) {
  turns.finish(answer);
  const { model, state, text, error } = answer;
  announce({ done: `${model} said: ${text.slice(0, 1500)}`, stopped: "Stopped", failed: `It failed: ${error?.message}` }[state]);
  if (error) refresh();
}

function full() {
  toast("The browser has no room left: this conversation is not kept.", "Save it as a file", () => save(chat.current().id));
}

function pick(name) {
  store.choose("model", name);
  chat.change({ model: name });
  $("entry").focus();
}

function remove(id) {
  const removed = chat.remove(id);
  if (id === chat.current().id) goTo("#/");
  else show();
  if (removed) toast(`Deleted: ${title(removed)}`, "Undo", () => chat.restore(removed));
}

function save(id) {
  const conversation = chat.find(id);
  if (!conversation) return;
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
  cards = found.filter(({ protocol }) => protocol === "chat");
  const wanted = [...cards].sort((a, b) => b.replicas - a.replicas).map(({ name }) => name);
  const before = store.choice("model");
  if (!chat.current().model && wanted.length) chat.change({ model: wanted.includes(before) ? before : wanted[0] });
  models.show(cards);
  showModel();
}

function goTo(hash) {
  history.pushState(null, "", hash);
  route();
}

function route() {
  const [view, id] = location.hash.split("/").slice(1);
  if (view === "chat" && !chat.show(id)) {
    // In place of it, or whoever goes back from here would only come here again.
    history.replaceState(null, "", "#/");
    return route();
  }
  const isModels = view === "models";
  $("chat-view").hidden = $("bar-chat").hidden = isModels;
  $("models-view").hidden = $("bar-models").hidden = !isModels;
  $("to-models").ariaCurrent = isModels ? "page" : null;
  toggleModels();
  if (!view && chat.current().turns.length) chat.start();
  beside.leave();
  show();
  return isModels || !matchMedia("(hover: hover)").matches || $("entry").focus();
}

/** From dark to light and back; until somebody chooses, the system's theme is shown. */
function theme(isOther) {
  const { dataset } = document.documentElement;
  const isDark = (dataset.theme ?? (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light")) === "dark";
  $("theme").textContent = isDark === isOther ? "Dark theme" : "Light theme";
  if (isOther) store.choose("theme", (dataset.theme = isDark ? "light" : "dark"));
}

addEventListener("hashchange", route);
addEventListener("pagehide", chat.leave);
// Another tab has kept or deleted something.
addEventListener("storage", show);
addEventListener("keydown", (event) => {
  if ((event.ctrlKey || event.metaKey) && event.key === "k") (event.preventDefault(), models.open(chat.current().model));
  if (event.key === "Escape" && !document.querySelector("dialog[open]")) chat.stop();
});
on("composer", "submit", submit);
on("entry", "input", fit);
on("entry", "keydown", (event) => isEnter(event) && submit(event));
on("stop", "click", chat.stop);
on("model-button", "click", () => models.open(chat.current().model));
on("tune-button", "click", () => openTune(chat.current()));
on("key-button", "click", () => key.ask());
on("to-new", "click", (event) => (event.preventDefault(), goTo("#/")));
on("theme", "click", () => theme(true));

theme(false);
route();
fit();
refresh();
setInterval(() => document.hidden || refresh(), REFRESH_MS);
