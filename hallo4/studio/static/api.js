// Talking to the server: keys from the link, errors as texts, and sending until it is saved.

const STORE = "hallo4-studio";

/** The words behind '#' of the link: {invite} or {rater, key}; they never reach the server's log. */
export function linkWords() {
  return Object.fromEntries(new URLSearchParams(location.hash.slice(1)));
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

/** An answer of the server that is no success; status 0: no answer at all. */
export class ApiError extends Error {
  constructor(status, text) {
    super(text);
    this.status = status;
  }
  /** Worth trying again with the same words. */
  get passing() {
    return this.status === 0 || this.status >= 500;
  }
}

/** One request; `bearer` is the key, `body` an object for JSON, or a Blob for bytes; `signal` ends it in the place of a timeout. */
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
    throw new ApiError(0, "The server cannot be reached.");
  }
  const found = await response.json().catch(() => ({}));
  if (!response.ok) throw new ApiError(response.status, found.error ?? `The server said ${response.status}.`);
  return found;
}

/** Call until it works. `onTrouble(error, retryNow)` is told of every failure that will be tried again. */
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
