// The page's words in the rater's language, and what the study asks: written into the page by the server.

const page = JSON.parse(document.getElementById("page")?.textContent ?? '{"words":{}}');

export const { questions, scale, parameters, drawn, language } = page;

/** A word of the page with values in the places of their {names}. */
export function say(name, values = {}) {
  return (page.words[name] ?? name).replace(/\{(\w+)\}/g, (place, key) => String(values[key] ?? place));
}
