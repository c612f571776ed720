// Numbers and settings in the words of people.

export const NAMES = { portrait: "Portrait", voice: "Voice", motion: "Driving video", model: "Model", seed: "Seed", speed: "Speed", steps: "Steps", guidance_scale: "Guidance", scale: "Enlarge", person: "Person", fit_motion: "Fitted keypoints", prompt: "Prompt", negative_prompt: "Not in the video" };

const SPEEDS = { full: "Full quality", fast: "Fast", draft: "Draft" };

/** A speed in words; with what it means for a model where that is given. */
export function speedOf(name, about) {
  if (!about) return SPEEDS[name] ?? name;
  const steps = `${about.steps} ${about.steps === 1 ? "step" : "steps"}`;
  return about.times === 1 ? `${SPEEDS[name]}: ${steps}` : `${SPEEDS[name]}: ${steps}, about ${Number(about.times.toPrecision(2))} times as fast`;
}

export function duration(seconds) {
  if (seconds < 1) return "under a second";
  if (seconds < 90) return `${Math.round(seconds)} s`;
  const minutes = Math.round(seconds / 60);
  return minutes < 90 ? `${minutes} min` : `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

/** How long it will take, from a preview: as earlier videos did, or counted, which is the least. */
export function expected({ expected_s: seconds, measured }) {
  if (seconds === null) return "not known before the first video like this";
  if (measured) return seconds < 1 ? duration(seconds) : `about ${duration(seconds)}`;
  return seconds < 1 ? "a second or more" : `at least ${duration(seconds)}`;
}

export function bytes(count) {
  return count < 1e9 ? `${Math.max(1, Math.round(count / 1e6))} MB` : `${(count / 1e9).toFixed(1)} GB`;
}

/** The settings of a job as [name, value] in words; what is left to the model says so. */
export function settingsOf(job) {
  const { settings, inputs } = job;
  return Object.entries(NAMES).map(([name, title]) => {
    if (["portrait", "voice", "motion"].includes(name)) return [title, inputs[name]?.name ?? "none"];
    const value = settings[name];
    if (name === "scale") return [title, value === 1 ? "not" : `${value} times`];
    if (name === "fit_motion") return [title, value ? "yes" : "no"];
    if (name === "speed") return [title, speedOf(value)];
    if (value === null && ["steps", "guidance_scale"].includes(name)) return [title, "by the speed"];
    return [title, value === null ? "the model’s own" : String(value)];
  });
}

export function titleOf(job) {
  return job.title || [job.inputs.portrait, job.inputs.voice ?? job.inputs.motion].filter(Boolean).map((input) => input.name.replace(/\.\w+$/, "")).join(" · ");
}
