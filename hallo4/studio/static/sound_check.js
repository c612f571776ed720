// The sound check: tones are played, the rater counts them.

import { ApiError, call } from "./api.js";
import { say } from "./words.js";

const el = (id) => document.getElementById(id);
let token = null;

/** Fetch new tones; `bearer` is the key. */
export async function newTones(bearer) {
  const found = await call("api/tones", bearer);
  token = found.token;
  el("tones").src = found.media;
}

/** `passed(answer)` gets what the server says after the right number; `failed(error)` what it refused. */
export function wireSoundCheck(bearer, passed, failed) {
  el("tones-play").addEventListener("click", () => el("tones").play().catch(() => {}));
  for (const button of document.querySelectorAll(".counts [data-count]")) {
    button.addEventListener("click", async () => {
      el("tones-wrong").textContent = "";
      try {
        passed(await call("api/sound_check", bearer(), { token, count: Number(button.dataset.count) }));
      } catch (error) {
        if (!(error instanceof ApiError)) throw error;
        if (error.status !== 409) return failed(error);
        el("tones-wrong").textContent = say("sound_wrong");
        await newTones(bearer()).catch(failed);
      }
    });
  }
}
