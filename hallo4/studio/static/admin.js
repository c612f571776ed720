// The organiser's page: how far, how well, and the files.

import { ApiError, call, linkWords, recall, remember } from "./api.js";

const EVERY_MS = 5000;
const el = (id) => document.getElementById(id);

if (linkWords().token) remember("admin", linkWords().token);
if (location.hash) history.replaceState(null, "", location.pathname);
const token = recall("admin") ?? "";

function make(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("--")) node.style.setProperty(name, value);
    else node.setAttribute(name, value);
  }
  node.append(...children);
  return node;
}

const number = (value, digits = 2) => (value === null || value === undefined ? "–" : value.toFixed(digits).replace("-", "−"));
const percent = (value) => (value === null || value === undefined ? "–" : `${Math.round(100 * value)} %`);

function ago(seconds) {
  if (seconds === null) return "–";
  if (seconds < 90) return "now";
  if (seconds < 5400) return `${Math.round(seconds / 60)} min ago`;
  return seconds < 172800 ? `${Math.round(seconds / 3600)} h ago` : `${Math.round(seconds / 86400)} days ago`;
}

function tile(title, figure, small, note, meter) {
  const line = make("p", { class: "figure" }, figure, make("small", {}, small));
  return make("article", { class: "tile" }, make("h2", {}, title), line, ...(meter ? [meter] : []), make("p", {}, note));
}

const bar = (share) => make("div", { class: "meter" }, make("i", { "--to": String(share) }));

/** An interval on a scale from `from` to `to`, with a mark at the mean and one at the target. */
function range(interval, from, to, target) {
  const place = (value) => String(Math.min(1, Math.max(0, (value - from) / (to - from))));
  const meter = make("div", { class: "meter range" });
  if (interval.low !== null) meter.append(make("i", { "--from": place(interval.low), "--to": place(interval.high) }));
  if (target !== undefined) meter.append(make("s", { "--target": place(target) }));
  if (interval.mean !== null) meter.append(make("u", { "--at": place(interval.mean) }));
  return meter;
}

const between = (interval, words) => (interval.low === null ? "" : `95 %: ${words(interval.low)} to ${words(interval.high)} · `);

function tiles(found) {
  const { questions: q, axes, left, targets } = found;
  const share = q.answers_wanted ? q.answers / q.answers_wanted : 0;
  return [
    tile("Answers", String(q.answers), ` of ${q.answers_wanted}`, `${q.begun} of ${q.all} questions begun · ${q.gold} gold`, bar(share)),
    tile("Overlap", String(q.overlap_full), ` of ${q.overlapping}`, "questions with all their raters", bar(q.overlapping ? q.overlap_full / q.overlapping : 0)),
    ...Object.values(axes).map((of) =>
      tile(`Agreement: ${of.title}`, number(of.alpha.mean), " alpha", `${between(of.alpha, number)}target ${targets.alpha} · ${percent(of.tie)} ties`, range(of.alpha, -0.2, 1, targets.alpha)),
    ),
    tile("Side bias", percent(left.mean), " chose left", `${between(left, percent)}50 % is unbiased`, range(left, 0, 1, 0.5)),
  ];
}

function cell(text, small, low) {
  return make("td", low ? { class: "low" } : {}, text, ...(small ? [make("small", {}, ` ${small}`)] : []));
}

function row(rater, targets) {
  const of = (interval) => (interval && interval.n ? `of ${interval.n}` : "");
  const gold = rater.gold?.mean ?? null;
  return make(
    "tr", {},
    cell(rater.rater),
    cell(String(rater.answered), rater.wanted ? `of ${rater.wanted}` : ""),
    cell(String(rater.last_10_min)),
    cell(number(rater.median_s, 1)),
    cell(percent(gold), of(rater.gold), gold !== null && gold < targets.gold),
    cell(percent(rater.consistency?.mean), of(rater.consistency)),
    cell(percent(rater.left?.mean), of(rater.left)),
    cell(percent(rater.cannot_judge)),
    cell(ago(rater.idle_s)),
    make("td", { class: "state" }, rater.excluded ? `excluded: ${rater.excluded}` : (rater.ended ?? "open")),
  );
}

function show(found) {
  document.body.dataset.view = "board";
  el("tiles").replaceChildren(...tiles(found));
  el("raters").replaceChildren(...found.raters.map((rater) => row(rater, found.targets)));
  el("raters-hint").textContent = found.raters.length
    ? `Gold below ${percent(found.targets.gold)} is marked. Quality counts answers that can no longer be undone: ${found.sealed} ratings so far. To exclude a rater or delete their answers: hallo4 prefer raters.`
    : "No rater has joined yet. Send the rating link that was printed when the server started.";
  const { people } = found;
  const ended = Object.entries(people.ended).map(([reason, n]) => `${n} ${reason}`);
  const spoken = Object.entries(people.languages).map(([tag, n]) => `${n} ${tag || "?"}`);
  el("people").textContent = [`${people.joined} of ${people.allowed} raters`, ...ended, spoken.join(", ")].filter(Boolean).join(" · ");
  el("flags-count").textContent = String(found.flags.length);
  el("flags").replaceChildren(...found.flags.map((f) => make("li", {}, `${f.clip}: ${f.flag.replace("_", " ")}, ${f.raters} ${f.raters === 1 ? "rater" : "raters"}${found.unsafe.includes(f.clip) ? "; no longer shown" : ""}`)));
  el("problems-count").textContent = String(found.problems.length);
  el("problems").replaceChildren(...found.problems.map((line) => make("li", {}, line)));
  el("fresh").textContent = `Updated ${new Date().toLocaleTimeString()}`;
}

async function refresh() {
  try {
    if (!document.hidden || document.body.dataset.view === "loading") show(await call("api/admin/overview", token));
    el("banner").hidden = true;
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    if (error.status === 401) {
      document.body.dataset.view = "closed";
      return;
    }
    el("banner").hidden = false;
    el("banner-text").textContent = `${error.message} Trying again.`;
  }
  setTimeout(refresh, EVERY_MS);
}

for (const button of document.querySelectorAll("[data-export]")) {
  button.addEventListener("click", async () => {
    const name = button.dataset.export;
    const response = await fetch(`api/admin/export/${name}`, { headers: { Authorization: `Bearer ${token}` } }).catch(() => null);
    // A proxy that wants a sign-in answers with a page of its own, which is no export.
    const got = response?.ok && response.headers.has("Content-Disposition");
    el("banner").hidden = Boolean(got);
    if (!got) {
      const answered = response ? `HTTP ${response.status}, ${response.headers.get("Content-Type")}` : "no answer";
      el("banner-text").textContent = `The export failed (${answered}). Is the server running? Reload this page if you must sign in again.`;
      return;
    }
    const link = make("a", { href: URL.createObjectURL(await response.blob()), download: name });
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  });
}

refresh();
