// The valence-arousal plane: where the person seems to be, how sure that is, and the way there.

import { write } from "./canvas.js";
import { AROUSAL, AROUSAL_SPREAD, FRAME, TIME, VALENCE, VALENCE_SPREAD, seen } from "./store.js";

const TRAIL_S = 8;
const STEPS = 32; // of fading along the trail

export function drawPlane(context, width, height, colours, publisher, calm) {
  const margin = 30;
  const side = Math.min(width, height) - 2 * margin;
  const [left, top] = [(width - side) / 2, (height - side) / 2];
  const x = (valence) => left + ((valence + 1) / 2) * side;
  const y = (arousal) => top + ((1 - arousal) / 2) * side;
  drawGround(context, colours, x, y, side);
  const newest = publisher?.newest;
  if (!newest) {
    write(context, "waiting for the first estimate", x(0), y(-0.12), { colour: colours.quiet, size: 13, align: "center" });
    return;
  }
  context.save();
  context.beginPath();
  context.rect(left - margin, top - margin, side + 2 * margin, side + 2 * margin);
  context.clip();
  if (!calm) drawTrail(context, colours, x, y, publisher, newest);
  drawPoint(context, colours, x, y, side, newest);
  context.restore();
}

function drawGround(context, colours, x, y, side) {
  context.strokeStyle = colours.faint;
  context.lineWidth = 1;
  context.beginPath();
  context.roundRect(x(-1), y(1), side, side, 10);
  context.stroke();
  context.globalAlpha = 0.6;
  for (const radius of [0.5, 1]) {
    context.beginPath();
    context.arc(x(0), y(0), (radius * side) / 2, 0, 2 * Math.PI);
    context.stroke();
  }
  context.globalAlpha = 1;
  context.beginPath();
  context.moveTo(x(-1), y(0));
  context.lineTo(x(1), y(0));
  context.moveTo(x(0), y(-1));
  context.lineTo(x(0), y(1));
  context.stroke();
  const say = (text, valence, arousal, more) =>
    write(context, text, x(valence), y(arousal), { colour: colours.quiet, size: 12, base: "middle", ...more });
  const gap = 16 / (side / 2);
  say("excited", 0, 1 + gap * 0.8, { align: "center", colour: colours.text.arousal });
  say("calm", 0, -1 - gap * 0.8, { align: "center", colour: colours.text.arousal });
  sayUpright(context, "unpleasant", x(-1 - gap * 0.8), y(0), colours.text.valence);
  sayUpright(context, "pleasant", x(1 + gap * 0.8), y(0), colours.text.valence);
}

function sayUpright(context, text, x, y, colour) {
  context.save();
  context.translate(x, y);
  context.rotate(-Math.PI / 2);
  write(context, text, 0, 0, { colour, size: 12, align: "center", base: "middle" });
  context.restore();
}

// Settled as far as there is something settled, then provisional; nothing across frames that showed nobody.
function trailOf(publisher, newest) {
  const from = newest[TIME] - TRAIL_S;
  const settled = publisher.settled.filter((row) => row[TIME] >= from);
  const last = settled.at(-1)?.[FRAME] ?? -1;
  return [...settled, ...publisher.provisional.filter((row) => row[TIME] >= from && row[FRAME] > last)];
}

function drawTrail(context, colours, x, y, publisher, newest) {
  const trail = trailOf(publisher, newest);
  context.lineCap = "round";
  context.lineJoin = "round";
  context.strokeStyle = colours.trail;
  for (let step = 0; step < STEPS; step++) {
    const begin = newest[TIME] - TRAIL_S * (1 - step / STEPS);
    const end = begin + TRAIL_S / STEPS;
    const share = (step + 1) / STEPS;
    context.globalAlpha = 0.04 + 0.5 * share ** 2;
    context.lineWidth = 0.8 + 1.8 * share;
    context.beginPath();
    let before = null;
    for (const row of trail) {
      if (row[TIME] > end) break;
      const joined = before && seen(before) && seen(row) && row[TIME] - before[TIME] < 0.25;
      if (joined && row[TIME] > begin) {
        context.moveTo(x(before[VALENCE]), y(before[AROUSAL]));
        context.lineTo(x(row[VALENCE]), y(row[AROUSAL]));
      }
      before = row;
    }
    context.stroke();
  }
  context.globalAlpha = 1;
}

function drawPoint(context, colours, x, y, side, row) {
  const [px, py] = [x(row[VALENCE]), y(row[AROUSAL])];
  const [rx, ry] = [row[VALENCE_SPREAD], row[AROUSAL_SPREAD]].map((spread) => Math.max(7, (spread * side) / 2));
  const nobody = !seen(row);
  context.save();
  context.translate(px, py);
  context.scale(rx, ry);
  context.beginPath();
  context.arc(0, 0, 1, 0, 2 * Math.PI);
  context.restore();
  context.globalAlpha = nobody ? 0.05 : 0.2;
  context.fillStyle = colours.point;
  context.fill();
  context.globalAlpha = nobody ? 0.4 : 0.9;
  context.lineWidth = 1.25;
  context.strokeStyle = colours.point;
  context.setLineDash(nobody ? [3, 4] : []);
  context.stroke();
  context.setLineDash([]);
  context.globalAlpha = 1;
  context.beginPath();
  context.arc(px, py, 6, 0, 2 * Math.PI);
  context.fillStyle = nobody ? colours.card : colours.point;
  context.fill();
  context.lineWidth = 2.5;
  context.strokeStyle = nobody ? colours.quiet : colours.card;
  context.stroke();
  if (nobody) write(context, "nobody to go by", px, py - ry - 8, { colour: colours.quiet, size: 12, align: "center" });
}
