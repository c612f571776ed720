"use strict";
for (const button of document.querySelectorAll("button.all")) {
  button.addEventListener("click", () => {
    const videos = [...button.closest(".clip").querySelectorAll("video")];
    const playing = videos.some((video) => !video.paused);
    for (const [place, video] of videos.entries()) {
      video.muted = place > 0; // one voice is enough: the reference's
      if (playing) { video.pause(); } else { video.currentTime = 0; video.play(); }
    }
    button.textContent = playing ? "play all" : "pause all";
  });
}
for (const heading of document.querySelectorAll("table.sortable th")) {
  heading.addEventListener("click", () => {
    const body = heading.closest("table").tBodies[0];
    const place = heading.cellIndex;
    const up = heading.dataset.up !== "yes";
    heading.dataset.up = up ? "yes" : "no";
    const value = (row) => {
      const text = row.cells[place].textContent;
      const number = Number.parseFloat(text);
      return Number.isNaN(number) ? text : number;
    };
    const rows = [...body.rows].sort((a, b) => {
      const [x, y] = [value(a), value(b)];
      const order = typeof x === typeof y ? (x < y ? -1 : x > y ? 1 : 0) : typeof x === "number" ? -1 : 1;
      return up ? order : -order;
    });
    body.append(...rows);
  });
}
