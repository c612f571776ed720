// One place for a file: dropped, chosen or recorded; shown at once, sent meanwhile.

import { ApiError } from "./api.js";
import { send } from "./uploads.js";

const KINDS = {
  portrait: { accept: "image/*", choose: "Choose a picture" },
  voice: { accept: "audio/*,video/*", choose: "Choose a file", record: "Record" },
  motion: { accept: "video/*,.json,.npz", choose: "Choose a file", record: "Use the webcam" },
};

/** {upload, set(upload), take(file), busy}. `changed()` is called when its upload changes; `record(role)` gives a File or null. */
export function wireSlot(section, api, offered, record, changed, say) {
  const role = section.dataset.role;
  const kind = KINDS[role];
  section.append(document.getElementById("slot-body").content.cloneNode(true));
  const part = (name) => section.querySelector(name);
  const [drop, shown, bar, input, clear] = [".drop", ".shown", "progress", "input", ".clear"].map(part);
  const title = section.querySelector("h3").firstChild.textContent.trim();
  let going = null;
  let address = null;
  const slot = { upload: null, busy: false, take, set, fail };

  input.accept = kind.accept;
  input.setAttribute("aria-label", `${title}: ${kind.choose.toLowerCase()}`);
  bar.setAttribute("aria-label", `${title}: sending`);
  clear.setAttribute("aria-label", `${title}: remove the file`);
  input.addEventListener("change", () => input.files[0] && take(input.files[0]));
  clear.addEventListener("click", () => {
    set(null);
    input.focus();
  });
  if (kind.record) {
    const button = part(".record");
    button.hidden = false;
    button.textContent = kind.record;
    button.addEventListener("click", async () => {
      const file = await record(role);
      if (file) take(file);
      button.focus();
    });
  }
  view("", "", "", null);
  for (const name of ["dragenter", "dragover"]) section.addEventListener(name, (event) => over(event, true));
  for (const name of ["dragleave", "drop"]) section.addEventListener(name, (event) => over(event, false));
  section.addEventListener("drop", (event) => event.dataTransfer.files[0] && take(event.dataTransfer.files[0]));

  function over(event, on) {
    event.preventDefault();
    drop.classList.toggle("over", on);
  }

  /** Show and send a file. */
  async function take(file) {
    going?.abort();
    const mine = (going = new AbortController());
    fail("");
    slot.upload = null;
    slot.busy = true;
    view(file.name, "Sending …", file.type, URL.createObjectURL(file));
    bar.hidden = false;
    changed();
    try {
      const upload = await send(api, offered, role, file, (share) => (bar.value = share), mine.signal);
      if (mine !== going) return;
      slot.upload = upload;
      part(".file-facts").textContent = upload.facts;
      say(`${title} is here: ${upload.facts}.`);
    } catch (error) {
      if (mine !== going) return;
      if (!(error instanceof ApiError)) throw error;
      set(null);
      fail(error.message);
    } finally {
      if (mine === going) {
        slot.busy = false;
        bar.hidden = true;
        changed();
      }
    }
  }

  /** Put a file there that the server has: {id, name, address, facts?}; or nothing. */
  function set(upload) {
    going?.abort();
    going = null;
    slot.busy = false;
    slot.upload = upload;
    input.value = "";
    bar.hidden = true;
    fail("");
    if (upload) view(upload.name, upload.facts ?? "", "", upload.address);
    else view("", "", "", null);
    changed();
  }

  function view(name, facts, type, source) {
    if (address?.startsWith("blob:")) URL.revokeObjectURL(address);
    address = source;
    drop.classList.toggle("filled", source !== null);
    part(".file-name").textContent = name;
    part(".file-facts").textContent = facts;
    clear.hidden = source === null;
    part(".pick span").textContent = source === null ? kind.choose : "Replace";
    shown.replaceChildren(...(source === null ? [] : [preview(name, type, source)]));
  }

  function preview(name, type, source) {
    if (role === "portrait") {
      const picture = new Image();
      picture.alt = `The portrait ${name}`;
      picture.src = source;
      picture.addEventListener("error", () => picture.remove()); // some formats only the server can show
      return picture;
    }
    if (/\.(json|npz)$/i.test(name)) return document.createTextNode("Keypoints");
    const player = document.createElement(role === "voice" ? "audio" : "video");
    player.controls = true;
    player.preload = "metadata";
    player.playsInline = true;
    player.setAttribute("aria-label", `${title} ${name}`);
    player.src = source;
    return player;
  }

  function fail(text) {
    part(".wrong").textContent = text;
  }

  return slot;
}
