// Server-sent events with a key in the header, which EventSource cannot send; again and again until they come.

/** `on` holds a function for every event by name; `onTrouble(text)` gets an empty text once all is well again. */
export async function follow(path, key, on, onTrouble) {
  for (let pause = 500; ; pause = Math.min(2 * pause, 8000)) {
    try {
      const response = await fetch(path, { headers: { Authorization: `Bearer ${key}` }, cache: "no-store" });
      if (response.ok) {
        onTrouble("");
        pause = 250;
        for await (const { event, data } of messages(response.body)) on[event]?.(data);
      } else if (response.status === 401) {
        return onTrouble("The key of this link is not valid any more. Open the link that the studio prints.");
      }
    } catch (error) {
      if (!(error instanceof TypeError)) console.warn(error); // TypeError: the connection broke
    }
    onTrouble("The studio cannot be reached. This page tries again; videos in the queue are not lost.");
    await new Promise((resolve) => setTimeout(resolve, pause));
  }
}

async function* messages(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let waiting = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    waiting += value;
    const blocks = waiting.split("\n\n");
    waiting = blocks.pop();
    for (const block of blocks) {
      const lines = Object.fromEntries(block.split("\n").map((line) => [line.slice(0, line.indexOf(":")), line.slice(line.indexOf(":") + 2)]));
      if (lines.data) yield { event: lines.event, data: JSON.parse(lines.data) };
    }
  }
}
