// The way in: consent and pseudonym.

import { ApiError, call, randomToken, recall, remember } from "./api.js";
import { drawn, language, say } from "./words.js";

const PSEUDONYM = /^[A-Za-z0-9][A-Za-z0-9_-]{1,31}$/;
const el = (id) => document.getElementById(id);

/** `joined({rater, key})` is called once the server knows the rater. */
export function wireJoin(joined) {
  el("join").addEventListener("submit", async (event) => {
    event.preventDefault();
    const name = drawn ? null : el("rater").value.trim();
    const wrongName = !drawn && !PSEUDONYM.test(name);
    el("rater")?.setAttribute("aria-invalid", String(wrongName));
    if (wrongName) return complain(say("pseudonym_wrong"), el("rater"));
    if (!el("consent").checked) return complain(say("agree_missing"), el("consent"));
    complain("");
    const begun = recall("joining");
    const key = begun && begun.rater === name ? begun.key : randomToken();
    remember("joining", { rater: name, key }); // the same key again if the server's word is lost on its way
    el("begin").disabled = true;
    try {
      const participant = recall("participant") ?? {};
      const { rater } = await call("api/join", "", { invite: recall("invite"), rater: name, key, consent: true, language, participant });
      remember("joining", undefined);
      await joined({ rater, key });
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      complain(error.message);
    } finally {
      el("begin").disabled = false;
    }
  });
}

function complain(text, field) {
  el("join-wrong").textContent = text;
  field?.focus();
}
