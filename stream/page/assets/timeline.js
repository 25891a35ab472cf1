// Valence and arousal against time, what was present, and markers.

import { clock, write } from "./canvas.js";
import {
  AROUSAL, AROUSAL_SPREAD, FACE, FLAGS, FRAME, HISTORY_S, TIME, VALENCE, VALENCE_SPREAD, VOICE, WORDS, seen,
} from "./store.js";

const LEFT = 66, RIGHT = 22, LANE = 13, AXIS = 20, BETWEEN = 14, TOP = 18;
const TRACES = [
  { name: "valence", value: VALENCE, spread: VALENCE_SPREAD, ends: ["pleasant", "unpleasant"] },
  { name: "arousal", value: AROUSAL, spread: AROUSAL_SPREAD, ends: ["excited", "calm"] },
];
const LANES = [["face", FACE], ["voice", VOICE], ["words", WORDS]];
const GAP_S = 0.25; // longer than this between frames, and there were some that are not known

export function drawTimeline(context, width, height, colours, publisher) {
  const lanes = LANES.length * LANE;
  const plot = (height - TOP - BETWEEN * 2 - lanes - AXIS) / TRACES.length;
  const now = publisher?.newest?.[TIME] ?? HISTORY_S;
  const end = Math.max(now, HISTORY_S);
  const inner = width - LEFT - RIGHT;
  const x = (time) => LEFT + (1 - (end - time) / HISTORY_S) * inner;
  const bottom = height - AXIS;
  drawTime(context, colours, x, end, width, TOP, bottom);
  TRACES.forEach((trace, number) => {
    const top = TOP + number * (plot + BETWEEN);
    const y = (value) => top + ((1 - value) / 2) * plot;
    drawFrame(context, colours, trace, y, width);
    if (publisher) drawTrace(context, colours, trace, x, y, publisher, inner);
  });
  drawLanes(context, colours, x, bottom - lanes, publisher, width);
  if (publisher) drawMarkers(context, colours, x, publisher, end, bottom, width);
}

function drawTime(context, colours, x, end, width, top, bottom) {
  context.lineWidth = 1;
  for (let time = Math.ceil((end - HISTORY_S) / 10) * 10; time <= end; time += 10) {
    context.strokeStyle = colours.faint;
    context.globalAlpha = 0.5;
    context.beginPath();
    context.moveTo(Math.round(x(time)) + 0.5, top);
    context.lineTo(Math.round(x(time)) + 0.5, bottom);
    context.stroke();
    context.globalAlpha = 1;
    if (x(time) > LEFT - 2 && x(time) < width - 8) {
      write(context, clock(time), x(time), bottom + 15, { colour: colours.quiet, size: 11, align: "center" });
    }
  }
}

function drawFrame(context, colours, trace, y, width) {
  context.strokeStyle = colours.faint;
  context.lineWidth = 1;
  for (const value of [-1, 0, 1]) {
    context.globalAlpha = value === 0 ? 1 : 0.5;
    context.beginPath();
    context.moveTo(LEFT, Math.round(y(value)) + 0.5);
    context.lineTo(width - RIGHT, Math.round(y(value)) + 0.5);
    context.stroke();
  }
  context.globalAlpha = 1;
  const say = (text, value, more = {}) =>
    write(context, text, LEFT - 8, y(value), { colour: colours.quiet, size: 11, align: "right", base: "middle", ...more });
  say("+1", 1);
  say("−1", -1);
  say(trace.name, 0, { colour: colours.text[trace.name], size: 12, weight: 600 });
}

/** One row for each pixel: more cannot be seen. */
function thin(run, x) {
  const kept = [];
  let column = null;
  for (const row of run) {
    const at = Math.floor(x(row[TIME]));
    if (at === column) kept[kept.length - 1] = row;
    else kept.push(row);
    column = at;
  }
  return kept;
}

/** Rows in runs without a gap: none across frames that are not known, or that showed nothing. */
function runsOf(rows, x) {
  const runs = [];
  let before = null;
  for (const row of rows) {
    if (seen(row)) {
      if (before && seen(before) && row[TIME] - before[TIME] < GAP_S) runs.at(-1).push(row);
      else runs.push([row]);
    }
    before = row;
  }
  return runs.map((run) => thin(run, x));
}

function drawTrace(context, colours, trace, x, y, publisher, inner) {
  const colour = colours[trace.name];
  context.save();
  context.beginPath();
  context.rect(LEFT, 0, inner + 1, y(-1) + 3);
  context.clip();
  context.lineJoin = "round";
  context.fillStyle = colour;
  context.globalAlpha = 0.18;
  for (const run of runsOf(known(publisher), x)) {
    const at = (row, sign) => y(Math.max(-1, Math.min(1, row[trace.value] + sign * row[trace.spread])));
    context.beginPath();
    run.forEach((row) => context.lineTo(x(row[TIME]), at(row, 1)));
    for (let n = run.length - 1; n >= 0; n--) context.lineTo(x(run[n][TIME]), at(run[n], -1));
    context.fill();
  }
  const line = (runs, lineWidth, alpha, dash) => {
    context.strokeStyle = colour;
    context.lineWidth = lineWidth;
    context.globalAlpha = alpha;
    context.setLineDash(dash);
    for (const run of runs) {
      context.beginPath();
      run.forEach((row) => context.lineTo(x(row[TIME]), y(row[trace.value])));
      context.stroke();
    }
    context.setLineDash([]);
  };
  line(runsOf(publisher.provisional, x), 1, 0.75, [3, 2]);
  line(runsOf(publisher.settled, x), 2, 1, []);
  context.restore();
  drawHead(context, colours, trace, x, y, publisher.newest);
}

function drawHead(context, colours, trace, x, y, row) {
  if (!row || !seen(row)) return;
  const [px, py, r] = [x(row[TIME]), y(row[trace.value]), 4];
  context.fillStyle = colours[trace.name];
  context.strokeStyle = colours.card;
  context.lineWidth = 2;
  context.beginPath();
  if (trace.name === "valence") context.arc(px, py, r + 0.5, 0, 2 * Math.PI);
  else context.rect(px - r, py - r, 2 * r, 2 * r);
  context.stroke();
  context.fill();
}

/** Settled rows, and provisional ones where nothing is settled yet. */
function known(publisher) {
  const last = publisher.settled.at(-1)?.[FRAME] ?? -1;
  return [...publisher.settled, ...publisher.provisional.filter((row) => row[FRAME] > last)];
}

function drawLanes(context, colours, x, top, publisher, width) {
  const rows = publisher ? known(publisher).filter((row) => x(row[TIME]) >= LEFT) : [];
  LANES.forEach(([name, bit], number) => {
    const middle = top + number * LANE + LANE / 2;
    write(context, name, LEFT - 8, middle, { colour: colours.quiet, size: 11, align: "right", base: "middle" });
    context.fillStyle = colours.faint;
    context.globalAlpha = 0.6;
    context.fillRect(LEFT, middle - 0.5, width - LEFT - RIGHT, 1);
    context.globalAlpha = 1;
    context.fillStyle = colours.quiet;
    for (const [begin, end] of spans(rows, bit)) {
      context.fillRect(x(begin), middle - 2.5, Math.max(1.5, x(end) - x(begin)), 5);
    }
  });
}

/** From when to when something was there; a gap too short to see is none. */
function spans(rows, bit) {
  const found = [];
  for (const row of rows) {
    if ((row[FLAGS] & bit) === 0) continue;
    const last = found.at(-1);
    if (last && row[TIME] - last[1] <= GAP_S) last[1] = row[TIME];
    else found.push([row[TIME], row[TIME]]);
  }
  return found;
}

function drawMarkers(context, colours, x, publisher, end, bottom, width) {
  let free = LEFT;
  for (const { timeS, text } of publisher.markers) {
    if (timeS === null || timeS < end - HISTORY_S || timeS > end + 1) continue;
    const at = Math.min(Math.round(x(timeS)) + 0.5, width - RIGHT);
    context.strokeStyle = colours.ink;
    context.lineWidth = 1;
    context.setLineDash([2, 3]);
    context.beginPath();
    context.moveTo(at, TOP - 6);
    context.lineTo(at, bottom);
    context.stroke();
    context.setLineDash([]);
    context.font = "11px system-ui, sans-serif";
    const shown = text.length > 28 ? `${text.slice(0, 27)}…` : text;
    const wide = context.measureText(shown).width;
    const begin = Math.min(Math.max(at - wide / 2, LEFT), width - 4 - wide);
    if (begin >= free) {
      write(context, shown, begin, 9, { colour: colours.ink, size: 11 });
      free = begin + wide + 8;
    }
  }
}
