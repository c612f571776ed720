// The videos: waiting, in the making, and made. Cards change in place, so that what plays goes on playing.

import { ApiError } from "./api.js";
import { duration, settingsOf, titleOf } from "./words.js";

const el = (id) => document.getElementById(id);
const STAGES = { load: "loading the model", read: "reading the files", pose: "finding the person in the driving video", audio: "listening to the voice", generate: "making frames", write: "writing the file" };
const ENDS = { done: "is ready", cancelled: "was stopped", failed: "could not be made" };

/** {take(job), forget(id), keep(ids)}. `links`: `again(job)` and `compare(first, second)`. */
export function wireGallery(api, say, links) {
  const cards = new Map();
  let chosen = null;

  function take(job) {
    let card = cards.get(job.id);
    if (!card) {
      const part = el("job-card").content.cloneNode(true).firstElementChild;
      card = { part, job: null };
      cards.set(job.id, card);
      for (const button of part.querySelectorAll("[data-do]")) {
        if (button.dataset.do !== "download") button.addEventListener("click", () => act(button.dataset.do, card));
      }
      place(card, job);
    }
    const before = card.job?.status;
    card.job = job;
    draw(card.part, job, before);
    if (before && before !== job.status && ENDS[job.status]) say(`${titleOf(job)} ${ENDS[job.status]}. ${job.text}`);
    count();
  }

  /** Newest first; jobs do not move afterwards. */
  function place(card, job) {
    const later = [...cards.values()].filter((other) => other.job && other.job.created < job.created).sort((a, b) => b.job.created - a.job.created)[0];
    el("jobs").insertBefore(card.part, later?.part ?? null);
  }

  function forget(id) {
    const card = cards.get(id);
    if (!card) return;
    if (chosen === card) choose(null);
    card.part.remove();
    cards.delete(id);
    count();
  }

  function keep(ids) {
    for (const id of [...cards.keys()]) if (!ids.includes(id)) forget(id);
    count();
  }

  function count() {
    el("empty").hidden = cards.size > 0;
    const open = [...cards.values()].filter(({ job }) => ["queued", "running"].includes(job.status)).length;
    el("queue-line").textContent = open === 0 ? "" : open === 1 ? "1 video in the making" : `${open} videos in the making or waiting`;
    document.title = open ? `(${open}) hallo4 studio` : "hallo4 studio";
  }

  async function act(what, card) {
    const { job, part } = card;
    if (what === "again") return links.again(job);
    if (what === "compare") return compare(card);
    const button = part.querySelector(`[data-do=${what}]`);
    if (what === "delete" && !button.classList.contains("sure")) return ask(button, job);
    button.disabled = true;
    try {
      if (what === "delete") {
        await api(`api/jobs/${job.id}`, undefined, { method: "DELETE" });
        const next = part.nextElementSibling ?? part.previousElementSibling;
        forget(job.id);
        say(`${titleOf(job)} is deleted.`);
        (next?.querySelector("button:not([hidden])") ?? el("gallery")).focus();
      } else {
        take(await api(`api/jobs/${job.id}/${what}`, {}));
      }
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      part.querySelector(".text").textContent = error.message;
    } finally {
      button.disabled = false;
    }
  }

  /** Ask whether to delete, until people turn to something else. */
  function ask(button, job) {
    const over = new AbortController();
    const forget = () => {
      over.abort();
      button.classList.remove("sure");
      label(button, "Delete", job);
    };
    button.classList.add("sure");
    label(button, "Delete for ever?", job);
    button.focus(); // some browsers do not give it to what is pressed
    button.addEventListener("blur", forget, { signal: over.signal });
    button.addEventListener("keydown", (event) => event.key === "Escape" && forget(), { signal: over.signal });
  }

  function compare(card) {
    if (chosen === card) return choose(null);
    if (chosen === null) return choose(card);
    const first = chosen;
    choose(null);
    links.compare(first.job, card.job);
  }

  function choose(card) {
    chosen?.part.querySelector("[data-do=compare]").setAttribute("aria-pressed", "false");
    chosen = card;
    card?.part.querySelector("[data-do=compare]").setAttribute("aria-pressed", "true");
    el("compare-line").textContent = card ? `Press Compare at the video that ${titleOf(card.job)} is to stand beside.` : "";
  }

  return { take, forget, keep };
}

function draw(part, job, before) {
  const get = (name) => part.querySelector(name);
  part.dataset.status = job.status;
  get("h3").textContent = titleOf(job);
  get(".state").textContent = state(job);
  const [bar, progress] = [get("progress"), job.progress];
  bar.hidden = job.status !== "running";
  bar.setAttribute("aria-label", `${titleOf(job)}: frames made`);
  if (progress?.total) bar.value = progress.done / progress.total;
  else bar.removeAttribute("value");
  get(".text").textContent = job.text;
  screen(get(".screen"), job, before);
  const can = { cancel: ["queued", "running"].includes(job.status) && !job.stopping, resume: ["cancelled", "failed"].includes(job.status), download: job.video, again: true, compare: job.video, delete: job.status !== "running" };
  for (const button of part.querySelectorAll("[data-do]")) {
    button.hidden = !can[button.dataset.do];
    if (button.dataset.do !== "again") label(button, button.textContent, job);
  }
  if (job.video) get("[data-do=download]").href = `${job.video}?download=true`;
  const lines = [...settingsOf(job), ["Consent", job.consent === "agreed" ? "the person agreed" : "no real person"]];
  get("dl").replaceChildren(...lines.map(([name, value]) => row(name, value)));
  get(".notes").replaceChildren(...job.notes.map((note) => Object.assign(document.createElement("li"), { textContent: note })));
}

/** What a button of a card says, and to screen readers of which video. */
function label(button, text, job) {
  button.textContent = text;
  button.setAttribute("aria-label", `${text}: ${titleOf(job)}`);
}

function state(job) {
  const progress = job.progress;
  if (job.status === "queued") return job.ahead ? `Waiting, ${job.ahead} before it` : "Waiting for its turn";
  if (job.status === "failed") return "Could not be made";
  if (job.status === "cancelled") return job.video ? "Stopped; the finished part plays" : "Stopped";
  if (job.status === "done") return `${(job.frames / 25).toFixed(1)} s, made in ${duration(job.took_s)}`;
  if (job.stopping) return "Stopping after this step …";
  if (!progress) return "Beginning …";
  const left = progress.left_s === null ? "" : `, about ${duration(progress.left_s)} left`;
  const frames = progress.total ? `: ${Math.floor(progress.done)} of ${progress.total}` : "";
  const stage = STAGES[progress.stage] ?? progress.stage;
  return `${stage[0].toUpperCase()}${stage.slice(1)}${frames}${left}`;
}

/** The picture of a card: the finished video, the frames as they come, or the portrait. */
function screen(place, job, before) {
  if (job.video) {
    const player = place.querySelector("video");
    if (player && before === job.status) return;
    const video = Object.assign(document.createElement("video"), { controls: true, playsInline: true, preload: "metadata" });
    if (job.poster) video.poster = job.poster;
    video.src = `${job.video}?${job.status}-${job.frames}`; // a part and the whole are two videos
    video.setAttribute("aria-label", titleOf(job));
    return place.replaceChildren(video);
  }
  const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;
  const source = (!calm && job.live) || job.poster || job.inputs.portrait.address;
  let picture = place.querySelector("img");
  if (!picture) place.replaceChildren((picture = new Image()));
  picture.alt = job.live ? `The newest frames of ${titleOf(job)}` : `The portrait of ${titleOf(job)}`;
  if (picture.getAttribute("src") !== source) picture.src = source;
}

function row(name, value) {
  const line = document.createElement("div");
  line.append(Object.assign(document.createElement("dt"), { textContent: name }), Object.assign(document.createElement("dd"), { textContent: value }));
  return line;
}
