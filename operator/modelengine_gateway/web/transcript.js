// Shows the turns of one conversation, and keeps the end in sight while somebody reads there.

import { $, button, copyButton, h, iconButton, isEnter, on } from "./dom.js";
import { measurement, seconds } from "./format.js";
import { prose } from "./prose.js";

// So near the end, a reader follows it.
const NEAR_PX = 60;

/** `does` is what its buttons do: {retry(), edit(index, text)}. */
export function transcript(does) {
  const scroller = $("scroll");
  let last;
  let pending = null;
  let isFollowing = true;

  const follow = () => isFollowing && (scroller.scrollTop = scroller.scrollHeight);
  const setFollowing = (is) => ($("latest").hidden = isFollowing = is);
  on("scroll", "scroll", () => setFollowing(scroller.scrollHeight - scroller.scrollTop - scroller.clientHeight < NEAR_PX));
  on("latest", "click", () => (setFollowing(true), follow(), scroller.focus()));
  new ResizeObserver(follow).observe($("transcript"));

  function draw() {
    if (pending) last?.show(pending);
    pending = null;
  }

  return {
    show(turns) {
      const views = turns.map((turn, i) => (turn.role === "user" ? question(turn, i, does) : answer(turn, does)));
      pending = null;
      last = views.at(-1);
      $("transcript").replaceChildren(...views.map(({ node }) => node));
      setFollowing(true);
      follow();
    },
    /** Draws what is new in the last answer, at most once a frame. */
    update(turn) {
      if (!pending) requestAnimationFrame(draw);
      pending = turn;
    },
    finish(turn) {
      pending = turn;
      draw();
    },
  };
}

function question({ text }, index, does) {
  const deeds = h("div.deeds", {}, iconButton("edit", "Edit this message", open), copyButton(() => text, "Copy this message"));
  const content = [h("p.asked", {}, text), deeds];
  const said = h("div.said", {}, content);

  function open() {
    const field = h("textarea", { rows: 3, "aria-label": "Edit your message" });
    const close = () => (said.replaceChildren(...content), deeds.firstChild.focus());
    const send = () => field.value.trim() && does.edit(index, field.value.trim());
    field.value = text;
    field.addEventListener("keydown", (event) => {
      if (event.key === "Escape") close();
      if (isEnter(event)) (event.preventDefault(), send());
    });
    const note = h("span.note", {}, "What follows goes.");
    said.replaceChildren(field, h("div.choices", {}, note, button("Cancel", close), button("Send again", send, "button.primary")));
    field.focus();
  }

  return { node: h("article.turn.question", {}, h("h2.who", {}, "You"), said) };
}

/** Thoughts, text, tool calls, what went wrong, and how fast it came. */
function answer(turn, does) {
  const [text, thoughts] = [prose(), prose()];
  const [summary, calls, end, measure] = ["summary", "div", "div", "p.measure"].map((what) => h(what));
  const details = h("details.thoughts", {}, summary, thoughts.node);
  const said = h("div.said", {}, details, text.node, calls, end);
  const node = h("article.turn.answer", {}, h("header", {}, h("h2.who", {}, turn.model), measure), said);

  function show(now) {
    const isOpen = now.state === "open";
    node.dataset.state = now.state;
    node.setAttribute("aria-busy", isOpen);
    details.hidden = !now.thoughts;
    summary.textContent = isOpen && !now.text ? "Thinking …" : "Thoughts";
    thoughts.show(now.thoughts);
    text.show(now.text);
    if (now.calls.length !== calls.childElementCount) calls.replaceChildren(...now.calls.map(call));
    measure.replaceChildren(...(now.measured ? measurement(now.measured) : []).map((line) => h("span", {}, line)));
    end.replaceChildren(...(isOpen ? waiting(now) : ended(now, does)));
  }

  show(turn);
  return { node, show };
}

const waiting = ({ text, thoughts }) => (text || thoughts ? [] : [h("p.waiting", {}, "Waiting for the first word")]);

function ended(turn, does) {
  const copy = turn.text ? copyButton(() => turn.text, "Copy this answer") : null;
  const deeds = h("div.deeds", {}, iconButton("retry", "Answer again", does.retry), copy);
  const note = noteOn(turn);
  return [note && h("p.note", {}, note), turn.error && failure(turn.error, does), deeds].filter(Boolean);
}

function noteOn({ state, reason, text, thoughts, calls }) {
  if (state === "stopped") return "You stopped this answer.";
  if (reason === "length") return "Cut off at the longest answer, or the end of the context.";
  return state === "done" && !text && !thoughts && !calls.length ? "The model said nothing." : null;
}

function failure({ code, message, retryAfter }, does) {
  const when = retryAfter ? `It may work again in ${seconds(retryAfter)}. ` : null;
  return h("div.failure", {}, h("p", {}, message), h("p.note", {}, when, h("code", {}, code)), button("Try again", does.retry));
}

function call({ function: called }) {
  const head = h("figcaption", {}, "Calls ", h("code", {}, String(called?.name ?? "?")));
  return h("figure.call", {}, head, h("pre", { tabindex: 0 }, pretty(called?.arguments)));
}

function pretty(given) {
  try {
    return JSON.stringify(typeof given === "string" ? JSON.parse(given) : given, null, 2) ?? "";
  } catch {
    return given;
  }
}
