// What numbers and names mean, in plain words.

const VALENCE = [[0.6, "very pleasant"], [0.25, "pleasant"], [0.08, "a little pleasant"], [-0.08, "neutral"],
  [-0.25, "a little unpleasant"], [-0.6, "unpleasant"], [-Infinity, "very unpleasant"]];
const AROUSAL = [[0.6, "very excited"], [0.25, "excited"], [0.08, "a little excited"], [-0.08, "neutral"],
  [-0.25, "a little calm"], [-0.6, "calm"], [-Infinity, "very calm"]];

const wordFor = (scale, value) => scale.find(([least]) => value >= least)[1];
export const valenceWord = (value) => wordFor(VALENCE, value);
export const arousalWord = (value) => wordFor(AROUSAL, value);

/** `+0.42`, with a minus sign where it belongs. */
export const signed = (value) => `${value < 0 ? "−" : "+"}${Math.abs(value).toFixed(2)}`;

const RUNGS = {
  "visual-2": "every second picture",
  "visual-3": "every third picture",
  "audio-3": "every third picture, and sound as rarely",
  "half-folds": "half of the folds",
  "one-fold": "one fold",
};
export const rungWords = (rung) => (rung ? `${RUNGS[rung] ?? rung}: the machine is behind (${rung})` : "everything");

const CAUSES = {
  estimate_busy: "the machine was behind",
  speech_busy: "speech was behind",
  ticks_dropped: "moments without a picture",
  camera_surplus: "the camera is quicker than is needed",
  microphone_overflow_samples: "samples of sound that nobody fetched",
  mqtt_disconnected: "not published: no broker",
  mqtt_refused: "refused by the broker",
  mqtt_queue: "not published: a slow broker",
  mqtt_settled_queue: "settled, not published",
  mqtt_outbox_full: "settled, the outbox was full",
  mqtt_outbox_failed: "settled, the disk failed",
  record_queue: "not recorded: a slow disk",
  record_failed: "not recorded: the disk failed",
  page_viewer_slow: "a viewer of this page was slow",
};
export function dropsWords(drops) {
  const parts = Object.entries(drops).map(([cause, n]) => `${n} (${CAUSES[cause] ?? cause.replaceAll("_", " ")})`);
  return parts.join(", ") || "nothing";
}

const HEALTH = {
  ok: ["good", "working"], off: ["quiet", "off"], waiting: ["warning", "waited for"], lost: ["bad", "lost"],
  ended: ["quiet", "ended"],
};
/** Tone and word of an input's health. */
export const healthWords = (health) => HEALTH[health] ?? ["quiet", health];

const PHASES = {
  starting: ["warning", "starting"], running: ["good", "running"], paused: ["warning", "paused"],
  stopped: ["quiet", "ended"],
};
/** Tone and words of how a publisher is. */
export function stateWords(publisher) {
  if (!publisher) return ["quiet", "nothing yet"];
  if (publisher.link === "lost") return ["bad", "the broker is away: tried again"];
  if (publisher.available === "offline") return ["bad", "gone without a word"];
  if (publisher.available === "stopped") return ["quiet", "ended"];
  return PHASES[publisher.status?.phase] ?? ["quiet", "no status yet"];
}

/** A row's estimate as a sentence. */
export function sentence(row, isSeen) {
  if (!row) return "There is no estimate yet.";
  const [, , valence, arousal, valenceSpread, arousalSpread] = row;
  const unsure = isSeen ? "" : " There was nobody to go by.";
  return (
    `Valence ${signed(valence)}, give or take ${valenceSpread.toFixed(2)}: ${valenceWord(valence)}. ` +
    `Arousal ${signed(arousal)}, give or take ${arousalSpread.toFixed(2)}: ${arousalWord(arousal)}.${unsure}`
  );
}
