// Everything that is written: values, what is present, inputs, the machine, the bundle. Only text is ever put in.

import { AROUSAL, AROUSAL_SPREAD, FACE, FLAGS, VALENCE, VALENCE_SPREAD, VOICE, WORDS, seen } from "./store.js";
import {
  arousalWord, dropsWords, healthWords, rungWords, sentence, signed, stateWords, valenceWord,
} from "./words.js";
import { clock } from "./canvas.js";

const find = (id) => document.getElementById(id);

/** Sets an element's text where it changed: readers of a screen hear of changes. */
export function put(id, text) {
  const element = typeof id === "string" ? find(id) : id;
  if (element.textContent !== text) element.textContent = text;
}

function make(tag, text = "", properties = {}) {
  const element = document.createElement(tag);
  element.textContent = text;
  return Object.assign(element, properties);
}

/** Fills a list anew, where what is to stand in it changed. */
function fill(list, what, makeItems) {
  const key = JSON.stringify(what);
  if (list.dataset.shown === key) return;
  list.dataset.shown = key;
  list.replaceChildren(...makeItems());
}

export function showValues(publisher) {
  const row = publisher?.newest;
  put("valence", row ? signed(row[VALENCE]) : "–");
  put("arousal", row ? signed(row[AROUSAL]) : "–");
  put("valence-spread", row ? `± ${row[VALENCE_SPREAD].toFixed(2)}` : "");
  put("arousal-spread", row ? `± ${row[AROUSAL_SPREAD].toFixed(2)}` : "");
  const isSeen = row !== undefined && row !== null && seen(row);
  put("valence-word", isSeen ? valenceWord(row[VALENCE]) : row ? "nobody to go by" : "");
  put("arousal-word", isSeen ? arousalWord(row[AROUSAL]) : row ? "nobody to go by" : "");
  find("now").dataset.seen = String(isSeen);
  for (const [name, bit] of [["face", FACE], ["voice", VOICE], ["words", WORDS]]) {
    const item = find(`present-${name}`);
    // Which word was said at a frame is known only once it settled.
    const flags = (row?.[FLAGS] ?? 0) | ((publisher?.settled.at(-1)?.[FLAGS] ?? 0) & WORDS);
    const present = String((flags & bit) !== 0);
    if (item.dataset.present !== present) item.dataset.present = present;
    put(item.querySelector(".unseen"), present === "true" ? ": yes" : ": no");
  }
}

/** The values as a sentence, for those who do not see the drawings. */
export function say(publisher) {
  const row = publisher?.newest;
  return sentence(row, row ? seen(row) : false);
}

export function showWords(publisher, published) {
  const line = find("words");
  line.hidden = !published && !publisher?.words.size;
  const said = [...(publisher?.words.values() ?? [])].filter((words) => words.text).slice(-2);
  fill(line, said, () =>
    said.map(({ text, settled }) => make("span", `${text} `, { className: settled ? "" : "open" })),
  );
}

export function showState(publisher, connection) {
  const [tone, text] = connection === "live" ? stateWords(publisher) : connection;
  find("state").dataset.tone = tone;
  put("state-text", text);
  return text;
}

export function showStatus(publisher, name) {
  const status = publisher?.status;
  const source = name || status?.source || "affectstream";
  put("source", name && status ? `${name}: ${status.source}` : source);
  find("untrained").hidden = !status || status.bundle.trained;
  showInputs(status?.inputs ?? {});
  showMachine(status);
  showNotes(status?.notes ?? []);
  if (!status) put("good-for", "");
  else put("good-for", `${status.bundle.name} is ${asSentence(status.bundle.note || "a bundle that does not say what it is good for")}`);
}

function showNotes(notes) {
  const list = find("notes");
  list.hidden = !notes.length;
  fill(list, notes, () => notes.map((note) => make("li", `Note: ${note}.`)));
}

/** The inputs, by name, that are not as they should be. */
export const troublesOf = (inputs) =>
  Object.entries(inputs ?? {}).filter(([, { health }]) => health === "lost" || health === "waiting");

const asSentence = (text) => (/[.!?]$/.test(text) ? text : `${text}.`);

function showInputs(inputs) {
  const entries = Object.entries(inputs);
  fill(find("inputs"), entries, () =>
    entries.map(([name, { health, detail, way_out: wayOut }]) => {
      const [tone, word] = healthWords(health);
      const item = make("li");
      item.dataset.tone = tone;
      const lamp = make("span", "", { className: "lamp" });
      lamp.setAttribute("aria-hidden", "true");
      item.append(lamp, make("span", `${name}: ${word}`));
      if (detail) item.append(make("span", detail, { className: "detail" }));
      if (wayOut) item.append(make("span", `What helps: ${wayOut}`, { className: "way-out" }));
      return item;
    }),
  );
  const troubles = troublesOf(inputs);
  const list = find("troubles");
  list.hidden = !troubles.length;
  fill(list, troubles, () =>
    troubles.map(([name, { health, detail, way_out: wayOut }]) => {
      const [tone, word] = healthWords(health);
      const why = detail ? ` (${detail})` : "";
      const item = make("li", `The ${name} is ${word}${why}.${wayOut ? ` What helps: ${wayOut}` : ""}`);
      item.dataset.tone = tone;
      return item;
    }),
  );
}

function showMachine(status) {
  if (!status) {
    for (const id of ["rate", "latency", "frames", "drops", "rung", "bundle"]) put(id, "–");
    return;
  }
  const { p50, p95 } = status.latency_ms;
  put("rate", `${status.frame_rate.toFixed(1)} frames/s`);
  put("latency", p50 === null ? "not known" : `${Math.round(p50)} ms, 95 % under ${Math.round(p95)} ms`);
  put("frames", `${status.frames} estimated, ${status.settled} settled`);
  put("drops", dropsWords(status.drops));
  put("rung", rungWords(status.degraded));
  const folds = `${status.bundle.folds} ${status.bundle.folds === 1 ? "fold" : "folds"}`;
  put("bundle", `${status.bundle.name} (${folds}, ${status.accelerator}; faces: ${status.detector || "none"})`);
}

export function showMarkers(publisher) {
  const markers = [...(publisher?.markers ?? [])].slice(-4).reverse();
  const list = find("markers");
  list.hidden = !markers.length;
  fill(list, markers, () =>
    markers.map(({ timeS, text }) => {
      const item = make("li");
      item.append(make("time", timeS === null ? "–" : clock(timeS)), make("span", text));
      return item;
    }),
  );
}

let shownPreview = null;

/** Draws the face crop, which comes as bytes of red, green and blue. */
export function showPreview(preview) {
  if (preview === shownPreview) return;
  shownPreview = preview;
  const { width, height, rgb } = preview ?? { rgb: "" };
  const canvas = find("crop");
  const context = canvas.getContext("2d");
  put("crop-word", rgb ? "a face" : "no face");
  if (!rgb) {
    context.clearRect(0, 0, canvas.width, canvas.height);
    return;
  }
  if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
  const bytes = atob(rgb);
  const image = context.createImageData(width, height);
  for (let pixel = 0; pixel < width * height; pixel++) {
    for (let channel = 0; channel < 3; channel++) {
      image.data[4 * pixel + channel] = bytes.charCodeAt(3 * pixel + channel);
    }
    image.data[4 * pixel + 3] = 255;
  }
  context.putImageData(image, 0, 0);
}

export function showChooser(names, chosen, kind) {
  find("chooser").hidden = names.length < 2;
  put("chooser-of", kind === "watch" ? "Publisher" : "Source");
  const select = find("publishers");
  fill(select, names, () => names.map((name) => make("option", name, { value: name })));
  if (chosen !== null && select.value !== chosen) select.value = chosen;
}
