// Keys, pointer and touch: what each of them does is an action of the page.

import { say } from "./words.js";

const el = (id) => document.getElementById(id);

const BUTTONS = { play: "Space", back: "ArrowLeft", forward: "ArrowRight", slow: "s", loop: "l", zoom: "m", sound: "v", submit: "Enter", undo: "z", "done-undo": "z", help: "h" };

/** The key as on a Latin keyboard: digits by their place, and letters too where another alphabet is on. */
function latin(event) {
  if (/^(Digit|Numpad)\d$/.test(event.code)) return event.code.slice(-1);
  if (/^[a-z]$/i.test(event.key)) return event.key.toLowerCase();
  if (/^Key[A-Z]$/.test(event.code)) return event.code.slice(3).toLowerCase();
  return event.key === " " ? "Space" : event.key;
}

/** `actions`: see `rate.js`; `player`: for what only concerns the picture. */
export function wireControls(actions, player) {
  const keys = {
    Space: actions.toggle,
    ArrowLeft: (event) => (event?.shiftKey ? player.pan(-0.1, 0) : player.step(-1)),
    ArrowRight: (event) => (event?.shiftKey ? player.pan(0.1, 0) : player.step(1)),
    ArrowUp: (event) => event.shiftKey && player.pan(0, -0.1),
    ArrowDown: (event) => event.shiftKey && player.pan(0, 0.1),
    Home: () => player.seek(0),
    Enter: actions.submit,
    z: actions.undo,
    s: () => player.set("slow", !player.slow),
    l: () => player.set("loop", !player.loop),
    m: () => player.set("zoomed", !player.zoomed),
    v: () => player.set("muted", !player.muted),
    a: () => actions.solo("left"),
    b: () => actions.solo("right"),
    u: () => actions.flag("unsafe"),
    k: () => actions.flag("broken"),
    i: () => actions.flag("identity_lost"),
    h: () => actions.guide(true),
    "?": () => actions.guide(true),
  };
  ["1234567890", "qwertyuiop"].forEach((row, place) => {
    // A letter that means something else keeps that meaning where no answer is at its place.
    [...row].forEach((key, at) => {
      const other = keys[key];
      keys[key] = (event) => (other && actions.answersIn(place) <= at ? other(event) : actions.chooseAt(place, at));
    });
  });
  wireKeys(keys);
  wireButtons(keys, actions, player);
}

function wireKeys(keys) {
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || el("guide").open) return;
    const view = document.body.dataset.view;
    const key = latin(event);
    const act = keys[key];
    const here = view === "rating" || (view === "done" && key === "z");
    const inField = event.target.closest?.("input:not([type=range]), textarea, select");
    const pressesFocused = (key === "Space" || key === "Enter") && event.target.closest?.("button");
    const movesTime = key.startsWith("Arrow") && event.target.id === "time" && !event.shiftKey;
    const held = event.repeat && !key.startsWith("Arrow");
    if (!act || !here || inField || pressesFocused || movesTime || held) return;
    event.preventDefault();
    act(event);
  });
}

function wireButtons(keys, actions, player) {
  // A button that was clicked gives its focus back, so that space and Enter keep their meaning.
  document.addEventListener("click", (event) => event.detail > 0 && event.target.closest("button")?.blur());
  for (const [id, key] of Object.entries(BUTTONS)) el(id).addEventListener("click", () => keys[key]());
  for (const button of document.querySelectorAll(".flag")) button.addEventListener("click", () => actions.flag(button.dataset.flag));
  for (const figure of document.querySelectorAll(".clip")) {
    figure.querySelector("figcaption").addEventListener("click", () => actions.solo(figure.dataset.side));
    figure.querySelector("canvas").addEventListener("click", () => player.zoomed || actions.toggle());
  }
  el("big-play").addEventListener("click", actions.toggle);
  el("time").addEventListener("input", () => player.seek(Number(el("time").value)));
  el("flag-menu").addEventListener("click", () => document.body.classList.toggle("flags-open"));
  el("guide-close").addEventListener("click", () => actions.guide(false));
  el("guide").addEventListener("click", (event) => event.target === el("guide") && actions.guide(false));
  el("copy").addEventListener("click", async () => {
    el("resume").select();
    const copied = await (navigator.clipboard?.writeText(el("resume").value).then(() => true, () => false) ?? false);
    el("copy").textContent = say(copied || document.execCommand("copy") ? "code_copied" : "resume_copy");
  });
}
