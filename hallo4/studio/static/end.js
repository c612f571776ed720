// The end of a rater's work: finish, completion code, the way back to a platform.

import { say } from "./words.js";

const el = (id) => document.getElementById(id);

/** What the page says when there is no question: `state` is the server's word. */
export function showEnd(state) {
  const { ended, done } = state;
  el("done-title").textContent = say(ended?.stopped ? "stopped_title" : "done_title");
  el("done-text").textContent = ended?.stopped ? say("stopped_text") : done ? say("done_text", { done }) : say("done_none");
  el("ending").hidden = Boolean(ended) || !done;
  el("done-undo").hidden = !state.undo;
  el("code").hidden = !ended?.code;
  el("code-text").textContent = ended?.code ?? "";
  el("code-go").hidden = !ended?.redirect;
  if (ended?.redirect) el("code-go").href = ended.redirect;
  document.body.classList.toggle("stopped", Boolean(ended?.stopped));
}

/** `finish()` is what the button does. */
export function wireEnd(finish) {
  el("finish").addEventListener("click", finish);
  el("code-copy").addEventListener("click", async () => {
    const copied = await (navigator.clipboard?.writeText(el("code-text").textContent).then(() => true, () => false) ?? false);
    if (copied) el("code-copy").textContent = say("code_copied");
    else getSelection().selectAllChildren(el("code-text"));
  });
}
