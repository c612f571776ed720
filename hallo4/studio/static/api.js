// Talking to the server: keys from the link, errors as texts, and sending until it is saved.

// The folder of the page, wherever a proxy puts it. Every address is relative to it, and what is remembered
// belongs to it: several studios may share a host.
const HOME = new URL(".", document.baseURI);
const STORE = `hallo4-studio${HOME.pathname.replace(/\/$/, "")}`;

/** The words of the link: those behind '#', {invite} or {rater, key}, never reach a server's log; platforms put theirs behind '?'. */
export function linkWords() {
  return Object.fromEntries([...new URLSearchParams(location.search), ...new URLSearchParams(location.hash.slice(1))]);
}

/** The address of the raters' page in a language, with words behind '#'. */
export function linkHere(language, words) {
  return `${HOME.href}?${new URLSearchParams({ lang: language })}#${words}`;
}

/** 32 hexadecimal digits; crypto.randomUUID would need https. */
export function randomToken() {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** What this browser remembers under a name; `undefined` removes it. Works without storage, until reload. */
const shadow = new Map();
export function recall(name) {
  try {
    return JSON.parse(localStorage.getItem(`${STORE}.${name}`) ?? "null");
  } catch {
    return shadow.get(name) ?? null;
  }
}
export function remember(name, value) {
  shadow.set(name, value);
  try {
    if (value === undefined) localStorage.removeItem(`${STORE}.${name}`);
    else localStorage.setItem(`${STORE}.${name}`, JSON.stringify(value));
  } catch {
    // Private windows without storage: this page still works, it only cannot resume.
  }
}
export function forgetAll(prefix, except) {
  try {
    for (const key of Object.keys(localStorage)) {
      if (key.startsWith(`${STORE}.${prefix}`) && !except.includes(key.slice(STORE.length + 1))) localStorage.removeItem(key);
    }
  } catch {
    // As above.
  }
}

/** Texts of errors, in another language where a page has one. */
const own = JSON.parse(document.getElementById("page")?.textContent ?? "{}").words ?? {};
const said = (name, english) => own[name] ?? english;

/** An answer of the server that is no success; status 0: no answer at all. */
export class ApiError extends Error {
  constructor(status, text) {
    super(text);
    this.status = status;
  }
  /** Worth trying again with the same words. */
  get passing() {
    return this.status === 0 || this.status === 429 || this.status >= 500;
  }
}

/** One request to an address relative to the page; `bearer` is the key, `body` an object for JSON, or a Blob for bytes; `signal` ends it in the place of a timeout. */
export async function call(path, bearer, body, { method = body === undefined ? "GET" : "POST", timeoutMs = 30000, signal } = {}) {
  const headers = { Authorization: `Bearer ${bearer}` };
  const options = { method, headers, cache: "no-store" };
  if (body !== undefined) {
    const bytes = body instanceof Blob;
    options.body = bytes ? body : JSON.stringify(body);
    headers["Content-Type"] = bytes ? "application/octet-stream" : "application/json";
  }
  let response;
  try {
    response = await fetch(path, { ...options, signal: signal ?? AbortSignal.timeout?.(timeoutMs) });
  } catch {
    throw new ApiError(0, said("unreachable", "The server cannot be reached."));
  }
  const found = await response.json().catch(() => null);
  if (found && response.ok) return found;
  if (typeof found?.error === "string") throw new ApiError(response.status, found.error);
  if (response.status >= 500) throw new ApiError(response.status, said("server_said", "The server said {status}.").replace("{status}", response.status));
  // A proxy that wants a sign-in, say. Its answer is not the studio's: nothing is saved, and no rater is turned away.
  throw new ApiError(502, said("not_ours", "The answer (HTTP {status}) is not from the studio. Reload this page if you must sign in again.").replace("{status}", response.status));
}

/** Call until it works. `onTrouble(error, retryNow)` is called with every failure that will be tried again. */
export async function insist(path, bearer, body, onTrouble) {
  for (let pause = 1000; ; pause = Math.min(2 * pause, 15000)) {
    try {
      return await call(path, bearer, body);
    } catch (error) {
      if (!error.passing) throw error;
      await new Promise((resolve) => {
        const timer = setTimeout(resolve, pause);
        onTrouble(error, () => {
          clearTimeout(timer);
          resolve();
        });
      });
    }
  }
}
