// What a question offers, and what a rater has chosen of it so far.

import { randomToken, recall } from "./api.js";
import { questions, say, scale } from "./words.js";

const ROWS = ["1234567890", "QWERTYUIOP"]; // keys of the first two questions; of more, the digits are for the marked one

/** Names of what is asked, in order. */
export const ASKED = questions?.map((question) => question.name) ?? [];

/** The answers to a question of so many clips: [value, label, more, key]. */
export function choicesOf(clips, name) {
  const sides = [["left", "A", say("better")], ["tie", say("tie"), ""], ["right", "B", say("better")]];
  const points = Array.from({ length: scale.points }, (_, at) => [at + 1, String(at + 1), ""]);
  const found = clips === 2 ? sides.filter(([value]) => value !== "tie" || scale.ties) : points;
  if (scale.cannot_judge) found.push(["cannot_judge", say("cannot_judge"), ""]);
  const row = ROWS[ASKED.length > 2 ? 0 : ASKED.indexOf(name)];
  return found.map((choice, at) => [...choice, row[at] ?? ""]);
}

const FLAGS = ["unsafe", "broken", "identity_lost"];
const FLAG_TURNS = ["", "left", "right", "left right"];

/** Whether every question has an answer. */
export const isAnswered = (draft) => ASKED.every((name) => draft.answers[name] !== undefined);

/** The question that digits answer where there are more than two: the first without an answer, or the last. */
export const marked = (draft) => ASKED.find((name) => draft.answers[name] === undefined) ?? ASKED[ASKED.length - 1];

/** The draft of a question: what this browser kept, what was said before an undo, or nothing yet. */
export function draftOf(question) {
  const kept = recall(`draft.${question.token}`);
  if (kept?.answers) return kept;
  const fresh = { answers: {}, flags: {}, watched: false, shownMs: 0, submitId: randomToken(), sent: null };
  const before = question.before;
  if (!before) return fresh;
  for (const flag of FLAGS) {
    const sides = ["left", "right"].filter((side) => before[`flags_${side}`].includes(flag));
    if (sides.length) fresh.flags[flag] = sides.join(" ");
  }
  const lengthMs = Math.ceil((1000 * question.frames) / question.fps);
  return { ...fresh, answers: { ...before.answers }, watched: true, shownMs: lengthMs };
}

/** A flag's next turn: none, A, B, both, none. */
export function turnFlag(draft, name, clips) {
  const turns = FLAG_TURNS.slice(0, clips === 2 ? 4 : 2);
  const sides = turns[(turns.indexOf(draft.flags[name] ?? "") + 1) % turns.length];
  if (sides) draft.flags[name] = sides;
  else delete draft.flags[name];
}

/** How a flag is marked on its button. */
export function flagMark(draft, name, clips) {
  const sides = draft.flags[name] ?? "";
  if (clips !== 2) return sides && "✓";
  return { "": "", left: "A", right: "B", "left right": "A B" }[sides];
}

/** The draft as the server takes it. */
export function answerOf(question, draft, version) {
  const flagsOf = (side) => FLAGS.filter((name) => (draft.flags[name] ?? "").split(" ").includes(side));
  return {
    token: question.token,
    submit_id: draft.submitId,
    answers: draft.answers,
    flags_left: flagsOf("left"),
    flags_right: flagsOf("right"),
    shown_ms: Math.round(draft.shownMs),
    ui_version: version,
  };
}
