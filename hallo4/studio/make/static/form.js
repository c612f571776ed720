// The form: three files, what would be made of them, settings, consent, go.

import { ApiError } from "./api.js";
import { record } from "./recorder.js";
import { wireSlot } from "./slot.js";
import { bytes, expected, speedOf } from "./words.js";

const el = (id) => document.getElementById(id);
const NUMBERS = ["seed", "steps", "guidance_scale"];
const TEXTS = ["person", "prompt", "negative_prompt"];

/** {fill(job)}: put the settings of a job into the form. */
export function wireForm(api, offered, say) {
  const slots = {};
  let asked = 0;
  let timer = null;
  let looking = null;
  for (const section of document.querySelectorAll(".slot")) {
    slots[section.dataset.role] = wireSlot(section, api, offered, record, changed, say);
  }
  for (const model of offered.models) el("model").append(new Option(model.name, model.name));
  for (const name of Object.keys(model().speeds)) el("speed").append(new Option("", name));
  el("dice").addEventListener("click", () => {
    el("seed").value = crypto.getRandomValues(new Uint32Array(1))[0];
    changed();
  });
  el("settings").addEventListener("input", changed);
  el("form").addEventListener("submit", (event) => (event.preventDefault(), go()));
  addEventListener("paste", (event) => {
    const picture = [...event.clipboardData.files].find((file) => file.type.startsWith("image/"));
    if (picture) slots.portrait.take(picture);
  });
  for (const name of ["dragover", "drop"]) addEventListener(name, (event) => event.preventDefault()); // a file beside a place opens nothing
  changed();

  function model() {
    return offered.models.find(({ name }) => name === el("model").value);
  }

  /** What the form says, as the server wants it; null for what is left to the model. */
  function settings() {
    const found = { model: el("model").value, speed: el("speed").value, scale: Number(el("scale").value), fit_motion: shown("keypoints") && el("fit_motion").checked };
    for (const [role, slot] of Object.entries(slots)) found[role] = slot.upload?.id ?? null;
    for (const name of NUMBERS) found[name] = el(name).value === "" ? null : Number(el(name).value);
    found.seed ??= 0;
    for (const name of TEXTS) found[name] = !el(name).closest("label").hidden && el(name).value.trim() ? el(name).value.trim() : null;
    return found;
  }

  function shown(what) {
    const keypoints = /\.(json|npz)$/i.test(slots.motion?.upload?.name ?? "");
    return { motion: Boolean(slots.motion?.upload), keypoints, text: Boolean(model()?.takes_text) }[what];
  }

  /** What is missing for a video, in words; empty where nothing is. */
  function missing() {
    const busy = Object.values(slots).some((slot) => slot.busy);
    if (busy) return "A file is still being sent. Wait until it is here.";
    if (!slots.portrait.upload) return "Add a portrait: a picture of one person.";
    if (!slots.voice.upload && (!slots.motion.upload || shown("keypoints"))) return "Add a voice, or a driving video with sound.";
    return "";
  }

  function changed() {
    const chosen = model();
    const speed = chosen.speeds[el("speed").value];
    for (const option of el("speed").options) option.textContent = speedOf(option.value, chosen.speeds[option.value]);
    for (const part of document.querySelectorAll("[data-with]")) part.hidden = !shown(part.dataset.with);
    el("model-about").textContent = chosen.description;
    el("steps").placeholder = `${speed.steps}, by the speed`;
    el("guidance_scale").placeholder = `${speed.guidance_scale}, by the speed`;
    el("prompt").placeholder = chosen.prompt;
    el("negative_prompt").placeholder = chosen.negative_prompt;
    el("settings-line").textContent = `${chosen.name}, seed ${el("seed").value || 0}, ${el("steps").value || speed.steps} steps`;
    complain("");
    clearTimeout(timer);
    looking?.abort();
    asked += 1;
    el("look").classList.remove("stale");
    const wanting = missing();
    if (wanting) {
      el("look-body").hidden = el("look-notes-box").hidden = true;
      el("look-wrong").textContent = "";
      el("look-hint").hidden = false;
      el("look-hint").textContent = wanting;
    } else if (el("form").querySelectorAll(":invalid").length === 0) {
      el("look").classList.add("stale");
      el("look-hint").hidden = !el("look-body").hidden;
      el("look-hint").textContent = "Looking …";
      timer = setTimeout(look, 350, asked);
    }
  }

  async function look(number) {
    let found = null;
    let wrong = "";
    try {
      found = await api("api/preview", settings(), { signal: (looking = new AbortController()).signal });
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      wrong = error.message;
    }
    if (number !== asked) return;
    el("look").classList.remove("stale");
    el("look-hint").hidden = true;
    el("look-body").hidden = !found;
    el("look-wrong").textContent = wrong;
    el("look-notes-box").hidden = !found?.notes.length;
    if (!found) return;
    el("look-picture").src = found.picture;
    el("look-length").textContent = `${found.seconds.toFixed(1)} s, ${found.frames} frames`;
    el("look-size").textContent = `${found.width_px} × ${found.height_px} pixels`;
    el("look-time").textContent = expected(found);
    el("look-time").title = found.estimate;
    el("look-memory").textContent = found.expected_bytes === null ? "not known" : bytes(found.expected_bytes);
    el("look-count").textContent = `(${found.notes.length})`;
    say(`It will last ${el("look-length").textContent} and take ${el("look-time").textContent}.`);
    el("look-notes").replaceChildren(...found.notes.map((note) => Object.assign(document.createElement("li"), { textContent: note })));
  }

  async function go() {
    const wanting = missing();
    if (wanting) return complain(wanting, el("form").querySelector(slots.portrait.upload ? "[data-role=voice] input" : "[data-role=portrait] input"));
    const invalid = el("form").querySelector("input:invalid");
    if (invalid) {
      el("settings").open = true;
      return complain(`${invalid.closest("label").firstChild.textContent.trim()}: ${invalid.validationMessage}`, invalid);
    }
    const consent = el("form").elements.consent.value;
    if (!consent) return complain("Say whether the person agreed. Without an answer no video is made.", el("form").elements.consent[0]);
    el("go").disabled = true;
    try {
      const job = await api("api/jobs", { settings: settings(), consent, title: el("title").value.trim() });
      say(job.ahead ? `The video is in the queue, ${job.ahead} before it.` : "The video is being made.");
      el("title").value = "";
      for (const choice of el("form").elements.consent) choice.checked = false; // asked once for every video
      if (matchMedia("(max-width: 900px)").matches) bring("gallery");
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      complain(error.message);
    } finally {
      el("go").disabled = false;
    }
  }

  /** Scroll to a part of the page. */
  function bring(part) {
    el(part).scrollIntoView({ behavior: matchMedia("(prefers-reduced-motion: reduce)").matches ? "instant" : "smooth" });
  }

  function complain(text, field) {
    el("form-wrong").textContent = text;
    field?.focus();
  }

  function fill(job) {
    const given = job.settings;
    if (offered.models.some(({ name }) => name === given.model)) el("model").value = given.model;
    for (const name of [...NUMBERS, ...TEXTS]) el(name).value = given[name] ?? "";
    el("speed").value = given.speed;
    el("scale").value = String(given.scale);
    el("fit_motion").checked = given.fit_motion;
    el("title").value = job.title;
    for (const [role, slot] of Object.entries(slots)) slot.set(job.inputs[role] ?? null);
    el("settings").open = true;
    bring("form");
    el("seed").focus({ preventScroll: true });
    say("The settings are in the form. Change what you like, answer the question about consent, and press Make the video.");
  }

  return { fill };
}
