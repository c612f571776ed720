// The rater's page: one question at a time, by keyboard, pointer or touch.
//
//   link -> intro (consent, pseudonym) -> sound-check -> rating -> done -> code
//                                                                |  ^
//                                                       saved by the server before the next one shows

import { ApiError, forgetAll, insist, linkHere, linkWords, randomToken, recall, remember } from "./api.js";
import { wireControls } from "./controls.js";
import { wireJoin } from "./join.js";
import { Player } from "./player.js";
import { showEnd, wireEnd } from "./end.js";
import { newTones, wireSoundCheck } from "./sound_check.js";
import { ASKED, answerOf, choicesOf, draftOf, flagMark, isAnswered, marked, turnFlag } from "./questions.js";
import { language, parameters, questions as asked, say } from "./words.js";

const UI_VERSION = "2";
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
    if (found.sound_check) {
      newTones(bearer()).catch((error) => trouble(error, null));
      return view("sound-check");
    }
    showEnd(found);
    return view("done");
  }
  if (found.lesson) teach(found.lesson);
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

/** What a practice question was for. */
function teach({ right, better }) {
  const [name, side] = Object.entries(better)[0];
  const title = asked.find((question) => question.name === name).title;
  toast(say(right ? "practice_right" : "practice_wrong", { side: { left: "A", right: "B", tie: say("tie") }[side], question: title }), 9000);
}

function progress() {
  const inSet = state.done % SET;
  const goal = Math.min(SET, inSet + state.left);
  const share = state.left === 0 ? 100 : goal ? (100 * inSet) / goal : 0;
  el("ring-done").style.strokeDashoffset = String(100 - share);
  el("ring-done").style.opacity = share ? "1" : "0"; // a round cap would show as a dot
  el("ring-text").textContent = state.left === 0 ? "✓" : String(inSet);
  el("ring").setAttribute("aria-label", say("in_set", { done: inSet, goal, all: state.done }));
  el("pace").textContent = state.left === 0 ? say("answered", { done: state.done }) : say("to_go", { left: state.left });
}

function build() {
  document.body.dataset.clips = String(question.clips);
  el("stage").dataset.token = question.token;
  el("stage").style.setProperty("--aspect", String(question.width_px / question.height_px));
  for (const axis of document.querySelectorAll(".axis")) {
    const buttons = choicesOf(question.clips, axis.dataset.axis).map(([value, label, more, key]) => {
      const button = document.createElement("button");
      button.type = "button";
      button.className = "choice";
      button.dataset.value = String(value);
      button.setAttribute("aria-keyshortcuts", key);
      const name = document.createElement("span");
      name.textContent = label;
      if (more) name.append(Object.assign(document.createElement("small"), { textContent: ` ${more}` }));
      button.append(name);
      if (key && key !== label) button.append(Object.assign(document.createElement("kbd"), { textContent: key }));
      button.addEventListener("click", () => choose(axis.dataset.axis, value));
      return button;
    });
    axis.querySelector(".choices").replaceChildren(...buttons);
  }
  delete document.body.dataset.solo;
  document.body.classList.toggle("flags-open", Object.keys(draft.flags).length > 0);
  el("practice").hidden = !question.practice;
  el("time").max = String(question.frames - 1);
  el("left").setAttribute("aria-label", say(question.clips === 2 ? "clip_a" : "the_clip"));
}

/** Everything on the screen that follows from draft and player. */
function show() {
  if (!question) return;
  const open = draft.watched && !sending;
  for (const axis of document.querySelectorAll(".axis")) {
    for (const button of axis.querySelectorAll(".choice")) {
      button.setAttribute("aria-pressed", String(String(draft.answers[axis.dataset.axis]) === button.dataset.value));
      button.disabled = !open;
    }
    axis.classList.toggle("answered", draft.answers[axis.dataset.axis] !== undefined);
    axis.classList.toggle("marked", ASKED.length > 2 && open && axis.dataset.axis === marked(draft));
  }
  for (const button of document.querySelectorAll(".flag")) {
    const mark = flagMark(draft, button.dataset.flag, question.clips);
    button.querySelector("b").textContent = mark;
    button.setAttribute("aria-pressed", String(mark !== ""));
    button.disabled = sending;
  }
  el("submit").disabled = !open || !isAnswered(draft);
  el("submit").classList.toggle("busy", sending);
  el("undo").disabled = sending || !state.undo;
  const gate = say(draft.watched ? "save" : question.clips === 2 ? "watch_both" : "watch_one");
  if (el("gate").textContent !== gate) el("gate").textContent = gate;
  el("announced").textContent = draft.watched ? say("can_answer") : "";
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
  if (el("guide").open) return el("guide").addEventListener("close", start, { once: true });
  if (CALM || document.hidden) {
    el("big-play").hidden = false;
    return;
  }
  await play();
}

async function play() {
  el("big-play").hidden = await player.play();
}

// ---------------------------------------------------------------- what raters do

function choose(name, value) {
  if (!draft?.watched || sending) {
    if (draft && !sending) nudge();
    return;
  }
  if (draft.answers[name] === value) delete draft.answers[name];
  else draft.answers[name] = value;
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
  if (!draft.sent && (el("submit").disabled || !isAnswered(draft))) {
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
    if (found.done % SET === 0 && found.left) toast(say("rest", { done: found.done }));
    else if (found.questions.length && !found.lesson) toast(say("saved"), 1500);
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
    toast(say("open_again"));
  } catch (error) {
    sending = false;
    await recover(error);
  }
}

async function finish() {
  try {
    take(await ask("api/finish", {}));
  } catch (error) {
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
  const platform = Object.fromEntries(parameters.filter((name) => words[name]).map((name) => [name, words[name]]));
  if (Object.keys(platform).length) remember("participant", platform);
  const chosen = words.lang ? `?${new URLSearchParams({ lang: words.lang })}` : ""; // stays, for a reload
  if (location.hash || location.search) history.replaceState(null, "", location.pathname + chosen);
  if (rater) return load();
  return recall("invite") ? view("intro") : closed();
}

wireEnd(finish);
wireSoundCheck(bearer, take, recover);
wireJoin((who) => {
  rater = who;
  remember("rater", who);
  return load();
});

// ---------------------------------------------------------------- looking closer

function guide(open) {
  if (!open) return el("guide").close();
  if (rater) el("resume").value = linkHere(language, `rater=${rater.rater}&key=${rater.key}`);
  if (!player.video.paused) el("guide").addEventListener("close", play, { once: true });
  player.video.pause();
  el("guide").showModal();
}

function solo(side) {
  if (question?.clips !== 2) return;
  if (document.body.dataset.solo === side) delete document.body.dataset.solo;
  else document.body.dataset.solo = side;
}

/** The answer at a place of a row of keys: row 0 is that of the first question, or of the marked one of many. */
function chooseAt(row, at) {
  if (!question || !draft || (ASKED.length > 2 && row > 0)) return;
  const name = ASKED.length > 2 ? marked(draft) : ASKED[row];
  const found = name && choicesOf(question.clips, name)[at];
  if (found) choose(name, found[0]);
}

const toggle = () => (player.video.paused ? play() : player.video.pause());

/** How many answers a row of keys has. */
const answersIn = (row) => (question && row < ASKED.length && !(ASKED.length > 2 && row > 0) ? choicesOf(question.clips, ASKED[row]).length : 0);

wireControls({ toggle, submit, undo, solo, flag, guide, chooseAt, answersIn }, player);

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
    toast(say("gone"));
    return again();
  }
  if (code >= 200 && code < 400) return banner(say("cannot_play"));
  banner(say(code === 507 ? "disk_full" : "cannot_load"), again);
  setTimeout(() => event.token === question?.token && again(), 3000);
});
document.addEventListener("visibilitychange", () => {
  if (document.hidden) player.video.pause();
  keep();
});
window.addEventListener("pagehide", keep);
setInterval(() => question && keep(), 5000);

enter();
