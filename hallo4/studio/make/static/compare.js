// Two videos side by side, in step, and what differs in their settings.

import { settingsOf, titleOf } from "./words.js";

const el = (id) => document.getElementById(`compare-${id}`);

/** A function that shows two jobs. */
export function wireCompare() {
  const dialog = document.getElementById("compare");
  const [a, b] = [el("a"), el("b")];
  el("close").addEventListener("click", () => dialog.close());
  dialog.addEventListener("close", () => {
    for (const video of [a, b]) {
      video.pause();
      video.removeAttribute("src");
      video.load();
    }
  });
  el("play").addEventListener("click", () => {
    if (a.paused) {
      b.currentTime = a.currentTime;
      a.play();
      b.play();
    } else {
      a.pause();
      b.pause();
    }
  });
  a.addEventListener("play", () => (el("play").textContent = "Pause both"));
  a.addEventListener("pause", () => (el("play").textContent = "Play both"));
  a.addEventListener("timeupdate", () => {
    // A frame apart can be seen, less cannot.
    if (Math.abs(a.currentTime - b.currentTime) > 0.04 && a.currentTime < b.duration) b.currentTime = a.currentTime;
  });
  el("sound").addEventListener("click", () => {
    const second = el("sound").getAttribute("aria-pressed") !== "true";
    el("sound").setAttribute("aria-pressed", String(second));
    a.muted = second;
    b.muted = !second;
  });
  return (first, second) => {
    for (const [video, job, name] of [[a, first, "a-name"], [b, second, "b-name"]]) {
      video.src = job.video;
      video.setAttribute("aria-label", titleOf(job));
      el(name).textContent = titleOf(job);
    }
    const others = new Map(settingsOf(second));
    const rows = settingsOf(first).filter(([name, value]) => others.get(name) !== value);
    const cells = rows.map(([name, value]) => line("td", name, value, others.get(name)));
    el("rows").replaceChildren(...(cells.length ? cells : [line("td", "Nothing", "", "")]));
    dialog.showModal();
    el("play").focus();
  };
}

function line(kind, ...texts) {
  const row = document.createElement("tr");
  row.append(...texts.map((textContent) => Object.assign(document.createElement(kind), { textContent })));
  return row;
}
