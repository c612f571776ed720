// One video holds both clips side by side, so they cannot drift apart; each half is drawn on its own canvas.

const MAX_SCALE = 2;

export class Player extends EventTarget {
  /** `videos`: two elements that take turns, one playing, one loading what comes next. */
  constructor(videos, canvases) {
    super();
    this.videos = videos;
    this.canvases = canvases;
    this.question = null;
    this.zoomed = false;
    this.slow = false;
    this.loop = true;
    this.muted = false;
    for (const video of videos) {
      for (const name of ["play", "pause", "seeked", "loadeddata", "ended", "timeupdate"]) {
        video.addEventListener(name, () => video === this.video && this.changed(name));
      }
      video.addEventListener("error", () => video.getAttribute("src") && this.failed(video));
    }
    for (const canvas of canvases) this.letDrag(canvas);
    this.tick = this.tick.bind(this);
    requestAnimationFrame(this.tick);
  }

  get video() {
    return this.videos[0];
  }
  get ready() {
    return this.question !== null && this.video.readyState >= 2;
  }
  get frames() {
    return this.question?.frames ?? 0;
  }
  get frame() {
    return Math.min(this.frames - 1, Math.floor(this.video.currentTime * this.question.fps + 0.001));
  }

  /** Show a question from its beginning, taking over what was preloaded. */
  show(question) {
    if (this.videos[1].dataset.token === question.token) this.videos.reverse();
    this.videos[1].pause();
    this.question = question;
    this.box = [...question.zoom];
    this.fetch(this.videos[0], question);
    this.apply();
    this.video.currentTime = 0;
    this.dispatchEvent(new Event("change"));
    this.draw();
  }

  /** Load the next question in the background; null: there is none. */
  preload(question) {
    const spare = this.videos[1];
    if (question) this.fetch(spare, question);
    else this.drop(spare);
  }

  fetch(video, question) {
    if (video.dataset.token === question.token && !video.error) return;
    video.dataset.token = question.token;
    video.src = question.media;
    video.load();
  }

  drop(video) {
    delete video.dataset.token;
    video.removeAttribute("src");
    video.load();
  }

  stop() {
    this.question = null;
    for (const video of this.videos) this.drop(video);
  }

  failed(video) {
    const event = new Event("trouble");
    event.token = video.dataset.token;
    delete video.dataset.token;
    this.dispatchEvent(event);
  }

  apply() {
    this.video.playbackRate = this.slow ? 0.5 : 1;
    this.video.preservesPitch = true;
    this.video.loop = this.loop;
    this.video.muted = this.muted;
  }

  set(name, value) {
    this[name] = value;
    this.apply();
    this.draw();
    this.dispatchEvent(new Event("change"));
  }

  /** False: the browser wants a touch or a key first. */
  async play() {
    try {
      await this.video.play();
      return true;
    } catch (error) {
      return error.name !== "NotAllowedError";
    }
  }

  toggle() {
    return this.video.paused ? this.play() : (this.video.pause(), Promise.resolve(true));
  }

  step(by) {
    this.seek((this.video.seeking ? this.target : this.frame) + by);
  }

  seek(frame) {
    if (!this.question || this.video.readyState < 1) return;
    this.video.pause();
    this.target = (frame + this.frames) % this.frames;
    this.video.currentTime = (this.target + 0.5) / this.question.fps; // its middle: no rounding to a neighbour
  }

  /** Share of the clip that was played, 0 to 1. */
  get seen() {
    const { played, duration } = this.video;
    if (!(duration > 0)) return 0;
    let sum = 0;
    for (let i = 0; i < played.length; i += 1) sum += played.end(i) - played.start(i);
    const slack = 2.5 / this.question.fps; // a loop starts again a little before the very end
    return Math.min(1, sum / Math.max(0.01, duration - slack));
  }

  changed(name) {
    this.draw();
    this.dispatchEvent(new Event(name === "timeupdate" ? "time" : "change"));
  }

  tick() {
    if (this.question && !this.video.paused) {
      this.draw();
      this.dispatchEvent(new Event("time"));
    }
    requestAnimationFrame(this.tick);
  }

  draw() {
    if (!this.ready) return;
    const { width_px: width, height_px: height, pitch_px: pitch, clips } = this.question;
    const [x, y, w, h] = this.zoomed ? this.box : [0, 0, 1, 1];
    for (let side = 0; side < clips; side += 1) {
      const canvas = this.canvases[side];
      const scale = Math.min(window.devicePixelRatio || 1, MAX_SCALE);
      const wide = Math.max(1, Math.round(canvas.clientWidth * scale));
      const high = Math.max(1, Math.round(canvas.clientHeight * scale));
      if (canvas.width !== wide || canvas.height !== high) [canvas.width, canvas.height] = [wide, high];
      const pen = canvas.getContext("2d", { alpha: false });
      pen.imageSmoothingQuality = "high";
      pen.drawImage(this.video, side * pitch + x * width, y * height, w * width, h * height, 0, 0, wide, high);
    }
  }

  /** Move the close-up by shares of itself. */
  pan(right, down) {
    if (!this.zoomed) return;
    const [x, y, w, h] = this.box;
    this.box = [Math.min(1 - w, Math.max(0, x + right * w)), Math.min(1 - h, Math.max(0, y + down * h)), w, h];
    this.draw();
  }

  letDrag(canvas) {
    let from = null;
    canvas.addEventListener("pointerdown", (event) => {
      if (!this.zoomed) return;
      from = [event.clientX, event.clientY];
      canvas.setPointerCapture(event.pointerId);
    });
    canvas.addEventListener("pointermove", (event) => {
      if (!from) return;
      this.pan((from[0] - event.clientX) / canvas.clientWidth, (from[1] - event.clientY) / canvas.clientHeight);
      from = [event.clientX, event.clientY];
    });
    for (const name of ["pointerup", "pointercancel"]) canvas.addEventListener(name, () => (from = null));
  }
}
