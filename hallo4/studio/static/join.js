// The way in: consent and pseudonym.

import { ApiError, call, randomToken, recall, remember } from "./api.js";

const PSEUDONYM = /^[A-Za-z0-9][A-Za-z0-9_-]{1,31}$/;
const el = (id) => document.getElementById(id);

/** `joined({rater, key})` is called once the server knows the rater. */
export function wireJoin(joined) {
  el("join").addEventListener("submit", async (event) => {
    event.preventDefault();
    const name = el("rater").value.trim();
    const wrongName = !PSEUDONYM.test(name);
    el("rater").setAttribute("aria-invalid", String(wrongName));
    if (wrongName) return complain("The pseudonym needs 2 to 32 letters, digits, - or _, and begins with a letter or digit.", el("rater"));
    if (!el("consent").checked) return complain("Please tick the box if you agree. Without it you cannot take part.", el("consent"));
    complain("");
    const begun = recall("joining");
    const key = begun?.rater === name ? begun.key : randomToken();
    remember("joining", { rater: name, key }); // the same key again if the server's word is lost on its way
    el("begin").disabled = true;
    try {
      await call("api/join", "", { invite: recall("invite"), rater: name, key, consent: true });
      remember("joining", undefined);
      await joined({ rater: name, key });
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
