// The dialog in which a voice or a driving video is recorded.

const el = (id) => document.getElementById(`recorder-${id}`);
const dialog = document.getElementById("recorder");

const WORDS = {
  voice: { title: "Record a voice", hint: "Speak in your normal voice, close to the microphone, in a quiet room.", want: { audio: true } },
  motion: { title: "Record a driving video", hint: "Face the camera, head and shoulders in the picture. Your sound is recorded too, and used if no other voice is given.", want: { audio: true, video: { width: { ideal: 1280 }, height: { ideal: 720 } } } },
};
const SUFFIXES = { "audio/webm": ".webm", "video/webm": ".webm", "audio/mp4": ".m4a", "video/mp4": ".mp4", "audio/ogg": ".ogg" };
const LONGEST_S = 30 * 60;

/** A File of what was recorded, or null where the dialog was closed without it. */
export function record(role) {
  const words = WORDS[role];
  el("title").textContent = words.title;
  el("hint").textContent = words.hint;
  return new Promise((resolve) => new Recording(role, words, resolve).open());
}

class Recording {
  constructor(role, words, resolve) {
    Object.assign(this, { role, words, resolve, stream: null, machine: null, file: null, timer: null });
  }

  async open() {
    this.closing = new AbortController();
    const on = (part, event, act) => part.addEventListener(event, act, { signal: this.closing.signal });
    on(el("start"), "click", () => this.start());
    on(el("stop"), "click", () => this.stop());
    on(el("again"), "click", () => this.ready());
    on(el("use"), "click", () => this.end(this.file));
    on(el("close"), "click", () => this.end(null));
    on(dialog, "cancel", (event) => (event.preventDefault(), this.end(null)));
    dialog.showModal();
    await this.ready();
  }

  /** Ask for the devices and show what they give. */
  async ready() {
    this.file = null;
    this.show("waiting");
    if (!navigator.mediaDevices?.getUserMedia || !globalThis.MediaRecorder) {
      return this.fail("This browser records only on https pages or on the machine that runs the studio. Record with another program and choose the file.");
    }
    try {
      this.stream = await navigator.mediaDevices.getUserMedia(this.words.want);
    } catch (error) {
      return this.fail(
        error.name === "NotAllowedError" ? "The browser was not allowed to record. Allow it beside the address of this page, then press Record again."
          : error.name === "NotFoundError" ? `No ${this.role === "voice" ? "microphone" : "camera with microphone"} was found. Connect one, or choose a file.`
          : `Recording cannot begin (${error.name}). Another program may be using the device; close it, then press Record again.`
      );
    }
    if (this.closing.signal.aborted) return this.release();
    if (this.role === "motion") {
      const view = el("view");
      Object.assign(view, { srcObject: this.stream, controls: false, muted: true });
      view.play().catch(() => {});
    }
    this.listen();
    this.show("ready");
    el("start").focus();
  }

  start() {
    const parts = [];
    this.machine = new MediaRecorder(this.stream);
    this.machine.addEventListener("dataavailable", ({ data }) => parts.push(data));
    this.machine.addEventListener("stop", () => this.finished(parts));
    this.machine.start(1000);
    const began = performance.now();
    this.timer = setInterval(() => {
      const seconds = (performance.now() - began) / 1000;
      el("clock").textContent = `${Math.floor(seconds / 60)}:${String(Math.floor(seconds % 60)).padStart(2, "0")}`;
      if (seconds > LONGEST_S) this.stop();
    }, 200);
    this.show("recording");
    el("stop").focus();
  }

  stop() {
    clearInterval(this.timer);
    if (this.machine?.state === "recording") this.machine.stop();
  }

  finished(parts) {
    const kind = this.machine.mimeType.split(";")[0];
    this.release();
    if (this.closing.signal.aborted) return;
    const name = `${this.role === "voice" ? "my voice" : "my webcam"}${SUFFIXES[kind] ?? ""}`;
    this.file = new File(parts, name, { type: kind });
    const address = URL.createObjectURL(this.file);
    const player = this.role === "voice" ? el("listen") : el("view");
    Object.assign(player, { srcObject: null, src: address, controls: true, muted: false });
    this.show("done");
    el("use").focus();
  }

  /** The meter moves with the loudness, so that people see that they are recorded. */
  listen() {
    this.sound = new AudioContext();
    const analyser = this.sound.createAnalyser();
    this.sound.createMediaStreamSource(this.stream).connect(analyser);
    const samples = new Float32Array(analyser.fftSize);
    const draw = () => {
      if (!this.stream) return;
      analyser.getFloatTimeDomainData(samples);
      el("level").value = Math.min(1, 4 * Math.sqrt(samples.reduce((sum, x) => sum + x * x, 0) / samples.length));
      requestAnimationFrame(draw);
    };
    draw();
  }

  release() {
    for (const track of this.stream?.getTracks() ?? []) track.stop();
    this.stream = null;
    this.sound?.close();
    this.sound = null;
  }

  fail(text) {
    this.show("failed");
    el("wrong").textContent = text;
    el("close").focus();
  }

  show(state) {
    dialog.dataset.state = state;
    el("wrong").textContent = "";
    if (state !== "done" && state !== "recording") el("clock").textContent = "0:00";
    el("start").hidden = state !== "ready";
    el("stop").hidden = state !== "recording";
    el("use").hidden = el("again").hidden = state !== "done";
    el("level").hidden = !["ready", "recording"].includes(state);
    el("listen").hidden = !(state === "done" && this.role === "voice");
    el("view").hidden = !(this.role === "motion" && ["ready", "recording", "done"].includes(state));
  }

  end(file) {
    this.closing.abort();
    this.stop();
    this.release();
    for (const player of [el("view"), el("listen")]) {
      player.pause();
      if (player.src) URL.revokeObjectURL(player.src);
      player.removeAttribute("src");
      player.srcObject = null;
    }
    dialog.close();
    this.resolve(file);
  }
}
