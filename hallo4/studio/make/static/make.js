// The page for makers: the key, what the studio offers, and how the parts know of each other.

import { ApiError, call, linkWords, recall, remember } from "./api.js";
import { wireCompare } from "./compare.js";
import { follow } from "./events.js";
import { wireForm } from "./form.js";
import { wireGallery } from "./gallery.js";

const el = (id) => document.getElementById(id);
const KEY = `maker-key.${location.pathname}`;

/** Say something to people who listen to the page. */
export function say(text) {
  el("said").textContent = "";
  requestAnimationFrame(() => (el("said").textContent = text));
}

async function open() {
  const { key: given } = linkWords();
  if (given) {
    remember(KEY, given);
    history.replaceState(null, "", location.pathname + location.search); // the key does not stay in the address bar
  }
  const key = given ?? recall(KEY);
  if (!key) return show("closed");
  const api = (path, body, options) => call(path, key, body, options);
  let offered;
  try {
    offered = await api("api/studio");
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    if (error.status === 401) return show("closed");
    trouble(error.message);
    return setTimeout(open, 3000);
  }
  trouble("");
  show("studio");
  const form = wireForm(api, offered, say);
  const compare = wireCompare();
  const gallery = wireGallery(api, say, { again: form.fill, compare });
  follow("api/events", key, { all: gallery.keep, job: gallery.take, gone: gallery.forget }, trouble);
}

function show(view) {
  document.body.dataset.view = view;
}

function trouble(text) {
  el("banner").textContent = text;
  el("banner").hidden = !text;
}

addEventListener("hashchange", () => linkWords().key && location.reload());
open();
