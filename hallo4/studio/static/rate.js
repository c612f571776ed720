// The rater's page: one question at a time, by keyboard, pointer or touch.
//
//   link -> intro (consent, pseudonym) -> rating -> done
//                                          |  ^
//                                 saved by the server before the next one shows

import { ApiError, forgetAll, insist, linkHere, linkWords, randomToken, recall, remember } from "./api.js";
import { wireControls } from "./controls.js";
import { wireJoin } from "./join.js";
import { Player } from "./player.js";
import { CHOICES, answerOf, draftOf, flagMark, turnFlag } from "./questions.js";

const UI_VERSION = "1";
const SET = 20; // questions to a full ring, then a good moment to rest
const CALM = window.matchMedia("(prefers-reduced-motion: reduce)").matches;

const el = (id) => document.getElementById(id);
const player = new Player([el("video-0"), el("video-1")], [el("left"), el("right")]);

let rater = null; // {rater, key}
let state = null; // what the server said last
let question = null; // the one on the screen
let draft = null; // what the rater chose so far; survives a reload
let sending = false;
let shownAt = 0; // when the clock of the draft was last wound

// ---------------------------------------------------------------- views and words

function view(name) {
  document.body.dataset.view = name;
  for (const id of ["ring", "help", "pace"]) el(id).hidden = !(name === "rating" || name === "done");
}

let toastTimer = 0;
function toast(text, forMs = 4000) {
  el("toast").textContent = text;
  el("toast").classList.add("up");
  clearTimeout(toastTimer);
  toastTimer = setTimeout(() => el("toast").classList.remove("up"), forMs);
}

function banner(text, retry) {
  el("banner").hidden = !text;
  el("banner-text").textContent = text ?? "";
  el("banner-retry").hidden = !retry;
  el("banner-retry").onclick = retry ?? null;
}

const trouble = (error, retryNow) => banner(error.message, retryNow);
const bearer = () => `${rater.rater}:${rater.key}`;

async function ask(path, body) {
  const found = await insist(path, bearer(), body, trouble);
  banner(null);
  return found;
}

function closed(text) {
  player.stop();
  question = null;
  if (text) el("closed-text").textContent = text;
  view("closed");
}

// ---------------------------------------------------------------- the question on the screen

function wind() {
  const now = performance.now();
  if (draft && shownAt) draft.shownMs += now - shownAt;
  shownAt = document.hidden || !question ? 0 : now;
}

function keep() {
  wind();
  if (question) remember(`draft.${question.token}`, draft);
}

function take(found) {
  wind();
  state = found;
  const [now, next] = found.questions;
  forgetAll("draft.", found.questions.map((q) => `draft.${q.token}`));
  progress();
  if (!now) {
    question = draft = null;
    player.stop();
    el("done-text").textContent = found.done
      ? `You answered ${found.done} ${found.done === 1 ? "question" : "questions"}. Every answer is saved; you can close this page.`
      : "There is nothing to rate at the moment. Come back later with the same link.";
    el("done-undo").hidden = !found.undo;
    view("done");
    return;
  }
  view("rating");
  if (question?.token !== now.token) {
    question = now;
    draft = draftOf(now);
    shownAt = 0;
    wind();
    el("stage").classList.remove("fresh");
    void el("stage").offsetWidth; // lets the entrance play again
    el("stage").classList.add("fresh");
    build();
    player.show(now);
    start();
  }
  player.preload(next ?? null);
  show();
  if (draft.sent) submit(); // was on its way when the page closed
}

function progress() {
  const inSet = state.done % SET;
  const goal = Math.min(SET, inSet + state.left);
  const share = state.left === 0 ? 100 : goal ? (100 * inSet) / goal : 0;
  el("ring-done").style.strokeDashoffset = String(100 - share);
  el("ring-done").style.opacity = share ? "1" : "0"; // a round cap would show as a dot
  el("ring-text").textContent = state.left === 0 ? "✓" : String(inSet);
  el("ring").setAttribute("aria-label", `${inSet} of ${goal} in this set, ${state.done} in all`);
  el("pace").textContent = state.left === 0 ? `${state.done} answered` : `${state.left} to go`;
}

function build() {
  document.body.dataset.clips = String(question.clips);
  el("stage").dataset.token = question.token;
  el("stage").style.setProperty("--aspect", String(question.width_px / question.height_px));
  for (const axis of document.querySelectorAll(".axis")) {
    const buttons = CHOICES[question.clips][axis.dataset.axis].map(([value, label, more, key]) => {
      const button = document.createElement("button");
      button.type = "button";
      button.className = "choice";
      button.dataset.value = String(value);
      button.setAttribute("aria-keyshortcuts", key);
      const name = document.createElement("span");
      name.textContent = label;
      if (more) name.append(Object.assign(document.createElement("small"), { textContent: ` ${more}` }));
      button.append(name);
      if (key !== label) button.append(Object.assign(document.createElement("kbd"), { textContent: key }));
      button.addEventListener("click", () => choose(axis.dataset.axis, value));
      return button;
    });
    axis.querySelector(".choices").replaceChildren(...buttons);
  }
  delete document.body.dataset.solo;
  document.body.classList.toggle("flags-open", Object.keys(draft.flags).length > 0);
  el("time").max = String(question.frames - 1);
  el("left").setAttribute("aria-label", question.clips === 2 ? "Clip A" : "The clip");
}

/** Everything on the screen that follows from draft and player. */
function show() {
  if (!question) return;
  const open = draft.watched && !sending;
  for (const axis of document.querySelectorAll(".axis")) {
    for (const button of axis.querySelectorAll(".choice")) {
      button.setAttribute("aria-pressed", String(String(draft[axis.dataset.axis]) === button.dataset.value));
      button.disabled = !open;
    }
    axis.classList.toggle("answered", draft[axis.dataset.axis] !== null);
  }
  for (const button of document.querySelectorAll(".flag")) {
    const mark = flagMark(draft, button.dataset.flag, question.clips);
    button.querySelector("b").textContent = mark;
    button.setAttribute("aria-pressed", String(mark !== ""));
    button.disabled = sending;
  }
  el("submit").disabled = !open || draft.alignment === null || draft.fidelity === null;
  el("submit").classList.toggle("busy", sending);
  el("undo").disabled = sending || !state.undo;
  const gate = draft.watched ? "Save and next" : question.clips === 2 ? "Watch both to the end" : "Watch to the end";
  if (el("gate").textContent !== gate) el("gate").textContent = gate;
  el("told").textContent = draft.watched ? "You can answer now." : "";
  document.body.classList.toggle("watched", draft.watched);
  showSeen(draft.watched ? 1 : player.seen);
  for (const [id, name] of [["slow", "slow"], ["loop", "loop"], ["zoom", "zoomed"]]) el(id).setAttribute("aria-pressed", String(player[name]));
  el("sound").setAttribute("aria-pressed", String(!player.muted));
  document.body.classList.toggle("playing", player.ready && !player.video.paused);
  document.body.classList.toggle("zoomed", player.zoomed);
  el("waiting").hidden = player.ready;
  showTime();
}

function showSeen(share) {
  el("seen").style.transform = `scaleX(${share})`;
  el("submit").style.setProperty("--seen", String(share));
}

function showTime() {
  if (!question || !player.ready) return;
  const frame = player.frame;
  el("time").value = String(frame);
  el("time").style.setProperty("--at", String(question.frames > 1 ? frame / (question.frames - 1) : 0));
  el("time").setAttribute("aria-valuetext", `frame ${frame + 1} of ${question.frames}`);
  el("clock").textContent = `${(frame / question.fps).toFixed(2)} s`;
  if (!draft.watched) {
    const seen = player.seen;
    showSeen(seen);
    if (seen >= 1) {
      draft.watched = true;
      keep();
      show();
    }
  }
}

async function start() {
  if (CALM || document.hidden || el("guide").open) {
    el("big-play").hidden = false;
    return;
  }
  await play();
}

async function play() {
  el("big-play").hidden = await player.play();
}

// ---------------------------------------------------------------- what raters do

function choose(axis, value) {
  if (!draft?.watched || sending) {
    if (draft && !sending) nudge();
    return;
  }
  draft[axis] = draft[axis] === value ? null : value;
  keep();
  show();
}

function nudge() {
  el("submit").classList.remove("nudge");
  void el("submit").offsetWidth;
  el("submit").classList.add("nudge");
}

function flag(name) {
  if (!draft || sending) return;
  turnFlag(draft, name, question.clips);
  document.body.classList.add("flags-open");
  keep();
  show();
}

async function submit() {
  if (!question || sending) return;
  if (!draft.sent && (el("submit").disabled || draft.alignment === null || draft.fidelity === null)) {
    if (!draft.watched) nudge();
    return;
  }
  sending = true;
  wind();
  draft.sent ??= answerOf(question, draft, UI_VERSION);
  keep();
  show();
  try {
    const found = await ask("api/answer", draft.sent);
    sending = false;
    take(found);
    if (found.done % SET === 0 && found.left) toast(`${found.done} done. A good moment to rest your eyes.`);
    else if (found.questions.length) toast("Saved", 1500);
  } catch (error) {
    sending = false;
    await recover(error);
  }
}

async function undo() {
  if (!state?.undo || sending) return;
  sending = true;
  show();
  const token = state.undo;
  try {
    const found = await ask("api/undo", { token });
    sending = false;
    remember(`draft.${token}`, undefined);
    take(found);
    toast("Your last answer is open again.");
  } catch (error) {
    sending = false;
    await recover(error);
  }
}

/** The server refused: say why, and go on from what it knows. */
async function recover(error) {
  if (!(error instanceof ApiError)) throw error;
  if (error.status === 401) return closed(error.message);
  if (draft) {
    draft.sent = null;
    draft.submitId = randomToken();
    if (error.status === 422) draft.watched = false;
    keep();
  }
  toast(error.message);
  return load();
}

async function load() {
  try {
    take(await ask("api/questions"));
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    if (error.status !== 401) throw error;
    remember("rater", undefined);
    rater = null;
    enter();
  }
}

// ---------------------------------------------------------------- the way in

function enter() {
  const words = linkWords();
  if (words.rater && words.key) {
    rater = { rater: words.rater, key: words.key };
    remember("rater", rater);
  } else {
    rater = recall("rater");
  }
  if (words.invite) remember("invite", words.invite);
  if (location.hash) history.replaceState(null, "", location.pathname);
  if (rater) return load();
  return recall("invite") ? view("intro") : closed();
}

wireJoin((who) => {
  rater = who;
  remember("rater", who);
  return load();
});

// ---------------------------------------------------------------- looking closer

function guide(open) {
  if (!open) return el("guide").close();
  if (rater) el("resume").value = linkHere(`rater=${rater.rater}&key=${rater.key}`);
  player.video.pause();
  el("guide").showModal();
}

function solo(side) {
  if (question?.clips !== 2) return;
  if (document.body.dataset.solo === side) delete document.body.dataset.solo;
  else document.body.dataset.solo = side;
}

function chooseAt(axis, at) {
  const found = question && CHOICES[question.clips][axis][at];
  if (found) choose(axis, found[0]);
}

const toggle = () => (player.video.paused ? play() : player.video.pause());

wireControls({ toggle, submit, undo, solo, flag, guide, chooseAt }, player);

new ResizeObserver(() => {
  el("stage").style.setProperty("--high", `${el("stage").clientHeight}px`);
  player.draw();
}).observe(el("stage"));

player.addEventListener("change", () => {
  if (!player.video.paused) el("big-play").hidden = true;
  show();
});
player.addEventListener("time", showTime);
player.addEventListener("trouble", async (event) => {
  if (!question) return;
  const code = await fetch(`media/${event.token}`, { headers: { Range: "bytes=0-0" } }).then(
    (r) => (r.ok && !r.headers.get("Content-Type")?.startsWith("video/") ? 0 : r.status), // a page of a proxy is no video
    () => 0,
  );
  if (event.token !== question?.token) return; // the next one: met again when its turn comes
  const again = () => {
    keep();
    question = null;
    return load();
  };
  if (code === 410 || code === 404) {
    toast("A video could not be shown; here is another.");
    return again();
  }
  if (code >= 200 && code < 400) return banner("Your browser cannot play this video (H.264). Try another browser.");
  banner(code === 507 ? "The disk of the server is full. Trying again." : "The video cannot be loaded. Trying again.", again);
  setTimeout(() => event.token === question?.token && again(), 3000);
});
document.addEventListener("visibilitychange", () => {
  if (document.hidden) player.video.pause();
  keep();
});
window.addEventListener("pagehide", keep);
setInterval(() => question && keep(), 5000);

enter();
