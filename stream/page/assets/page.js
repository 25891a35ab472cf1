// The page: what comes is kept, and drawn and written as often as it is worth it.

import { Drawing, readColours } from "./canvas.js";
import { Connection } from "./connection.js";
import { drawPlane } from "./plane.js";
import {
  put, say, showChooser, showMarkers, showPreview, showState, showStatus, showValues, showWords, troublesOf,
} from "./readout.js";
import { showSteering, wireSteering } from "./steering.js";
import { Store } from "./store.js";
import { drawTimeline } from "./timeline.js";
import { healthWords } from "./words.js";

const WRITE_MS = 250; // figures that change more often cannot be read
const DRAW_MS = 45;
const DRAW_CALMLY_MS = 1000;
const DESCRIBE_MS = 5000;

const find = (id) => document.getElementById(id);
const calm = window.matchMedia("(prefers-reduced-motion: reduce)");
const dark = window.matchMedia("(prefers-color-scheme: dark)");

const store = new Store();
let hello = null;
let connection = ["quiet", "connecting"];
let chosen = null;
let wanted = null; // whom the viewer chose: shown again when it comes back
let over = false; // the run said goodbye: that nothing answers any more is no fault
let colours = readColours();
const publisher = () => (chosen === null ? null : store.publishers.get(chosen) ?? null);

const plane = new Drawing(find("plane"), (context, width, height) =>
  drawPlane(context, width, height, colours, publisher(), calm.matches),
);
const timeline = new Drawing(find("timeline"), (context, width, height) =>
  drawTimeline(context, width, height, colours, publisher()),
);
dark.addEventListener("change", () => {
  colours = readColours();
  drawSoon(0);
});

// A screen reader is told of changes of state and of what its user asked for, never of estimates as they come.
function announce(text) {
  put("live", "");
  setTimeout(() => put("live", text), 50);
}

let announced = "";
function announceState(text) {
  if (text === announced) return;
  announced = text;
  announce(`${find("source").textContent}: ${text}`);
}

let drawing = 0;
let drawnAt = 0;
function drawSoon(everyMs = calm.matches ? DRAW_CALMLY_MS : DRAW_MS) {
  if (drawing) return;
  const wait = Math.max(0, drawnAt + everyMs - performance.now());
  drawing = setTimeout(() => {
    requestAnimationFrame(() => {
      drawing = 0;
      drawnAt = performance.now();
      plane.redraw();
      timeline.redraw();
    });
  }, wait);
}

let writing = 0;
let describedAt = -Infinity;
function writeSoon(everyMs = WRITE_MS) {
  if (writing) return;
  writing = setTimeout(() => {
    writing = 0;
    writeAll();
  }, everyMs);
}

function writeAll() {
  const now = publisher();
  const isLive = connection === "live";
  const { names } = store;
  showChooser(names, chosen, hello?.kind);
  showStatus(now, chosen ?? "");
  showValues(now);
  showWords(now, hello?.words);
  showMarkers(now);
  showSteering(now, isLive, hello?.markers);
  const troubles = isLive ? troublesOf(now?.status?.inputs) : [];
  const toSay = troubles.map(([name, { health }]) => `the ${name} is ${healthWords(health)[1]}`);
  announceState([showState(now, connection), ...toSay].join(", "));
  const state = find("state-text").textContent;
  document.title = `${state === "running" ? "" : `(${state}) `}${find("source").textContent} · affectstream`;
  find("preview").hidden = !hello?.preview;
  showPreview(now?.preview);
  if (performance.now() - describedAt > DESCRIBE_MS) {
    if (now?.newest) describedAt = performance.now();
    put("in-words", say(now));
  }
}

find("publishers").addEventListener("change", (event) => {
  chosen = wanted = event.target.value;
  describedAt = -Infinity;
  writeAll();
  drawSoon(0);
});

wireSteering({ publisherName: () => chosen ?? "", publisher, announce, describe: () => say(publisher()) });

new Connection("/events", {
  hello(message) {
    // Another build of the page is served now: what runs here may not understand it.
    if (hello && hello.build !== message.build) location.reload();
    hello = message;
    connection = "live";
    over = false;
    store.clear();
    writeSoon(0);
  },
  update(message) {
    store.take(message);
    if (wanted !== null && store.publishers.has(wanted)) chosen = wanted;
    else if (chosen === null || !store.publishers.has(chosen)) chosen = store.names[0] ?? null;
    drawSoon();
    writeSoon();
  },
  lost() {
    connection = over ? ["quiet", "ended"] : ["bad", "no connection: trying again"];
    writeSoon(0);
  },
  full() {
    connection = ["bad", "too many look at this page already: trying again"];
    writeSoon(0);
  },
  ended() {
    over = true;
  },
  locked() {
    location.assign("/");
  },
});
