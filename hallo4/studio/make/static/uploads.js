// A file to the server in pieces; a broken connection goes on where it stopped.

import { ApiError } from "./api.js";

const TRIES = 5;

/** The finished upload. `onProgress(share)`, 0 to 1. ApiError: refused, or not reachable for long. */
export async function send(api, { chunk_bytes: chunk, limit_bytes: limits }, role, file, onProgress, signal) {
  if (file.size === 0) throw new ApiError(422, `${file.name} is empty. Choose another file.`);
  if (file.size > limits[role]) {
    throw new ApiError(413, `${file.name} has ${megabytes(file.size)}; at most ${megabytes(limits[role])} can be used here. Cut or shrink it.`);
  }
  let state = await api("api/uploads", { role, name: file.name.slice(-300), size: file.size });
  for (let failures = 0; !state.complete; ) {
    signal.throwIfAborted();
    onProgress(state.received / file.size);
    try {
      const piece = file.slice(state.received, state.received + chunk);
      // The last piece has the file looked at, which may take a while.
      state = await api(`api/uploads/${state.id}?at=${state.received}`, piece, { method: "PUT", timeoutMs: 300000 });
      failures = 0;
    } catch (error) {
      if (!(error instanceof ApiError && (error.passing || error.status === 409)) || error.status === 507 || ++failures > TRIES) throw error;
      await new Promise((resolve) => setTimeout(resolve, 300 * 2 ** failures));
      state = await api(`api/uploads/${state.id}`).catch(() => state);
    }
  }
  onProgress(1);
  return state;
}

function megabytes(bytes) {
  return bytes < 2 ** 30 ? `${Math.max(1, Math.round(bytes / 2 ** 20))} MB` : `${(bytes / 2 ** 30).toFixed(1)} GB`;
}
