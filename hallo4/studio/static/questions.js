// What a question offers, and what a rater has chosen of it so far.

import { randomToken, recall } from "./api.js";

/** Per number of clips and axis: [value, label, more, key]. */
export const CHOICES = {
  2: {
    alignment: [["left", "A", "better", "1"], ["tie", "Tie", "", "2"], ["right", "B", "better", "3"], ["cannot_judge", "Can’t judge", "", "4"]],
    fidelity: [["left", "A", "better", "Q"], ["tie", "Tie", "", "W"], ["right", "B", "better", "E"], ["cannot_judge", "Can’t judge", "", "R"]],
  },
  1: {
    alignment: [[1, "1", "", "1"], [2, "2", "", "2"], [3, "3", "", "3"], [4, "4", "", "4"], [5, "5", "", "5"], ["cannot_judge", "Can’t judge", "", "6"]],
    fidelity: [[1, "1", "", "Q"], [2, "2", "", "W"], [3, "3", "", "E"], [4, "4", "", "R"], [5, "5", "", "T"], ["cannot_judge", "Can’t judge", "", "Y"]],
  },
};

const FLAGS = ["unsafe", "broken", "identity_lost"];
const FLAG_TURNS = ["", "left", "right", "left right"];

/** The draft of a question: what this browser kept, what was said before an undo, or nothing yet. */
export function draftOf(question) {
  const kept = recall(`draft.${question.token}`);
  if (kept) return kept;
  const fresh = { alignment: null, fidelity: null, flags: {}, watched: false, shownMs: 0, submitId: randomToken(), sent: null };
  const before = question.before;
  if (!before) return fresh;
  for (const flag of FLAGS) {
    const sides = ["left", "right"].filter((side) => before[`flags_${side}`].includes(flag));
    if (sides.length) fresh.flags[flag] = sides.join(" ");
  }
  const lengthMs = Math.ceil((1000 * question.frames) / question.fps);
  return { ...fresh, alignment: before.alignment, fidelity: before.fidelity, watched: true, shownMs: lengthMs };
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
    alignment: draft.alignment,
    fidelity: draft.fidelity,
    flags_left: flagsOf("left"),
    flags_right: flagsOf("right"),
    shown_ms: Math.round(draft.shownMs),
    ui_version: version,
  };
}
