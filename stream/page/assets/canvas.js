// What every drawing needs: a canvas as sharp as the screen, the theme's colours, and the time to draw.

/** Calls `draw(context, width, height)` in CSS pixels, on a canvas that follows its size and the screen's density. */
export class Drawing {
  constructor(canvas, draw) {
    this.canvas = canvas;
    this.context = canvas.getContext("2d");
    this.draw = draw;
    new ResizeObserver(() => this.redraw()).observe(canvas);
  }

  redraw() {
    const { width, height } = this.canvas.getBoundingClientRect();
    if (!width || !height) return;
    const density = Math.min(3, window.devicePixelRatio || 1);
    const [w, h] = [Math.round(width * density), Math.round(height * density)];
    if (this.canvas.width !== w || this.canvas.height !== h) Object.assign(this.canvas, { width: w, height: h });
    this.context.setTransform(density, 0, 0, density, 0, 0);
    this.context.clearRect(0, 0, width, height);
    this.draw(this.context, width, height);
  }
}

const NAMES = ["card", "ink", "quiet", "faint", "valence", "arousal", "trail", "point"];
const NAMES_OF_TEXT = { valence: "valence-text", arousal: "arousal-text" };

/** The colours in force, by name; text in a target's colour is `colours.text.valence`. */
export function readColours() {
  const style = getComputedStyle(document.documentElement);
  const read = (name) => style.getPropertyValue(`--${name}`).trim();
  const colours = Object.fromEntries(NAMES.map((name) => [name, read(name)]));
  colours.text = Object.fromEntries(Object.entries(NAMES_OF_TEXT).map(([target, name]) => [target, read(name)]));
  return colours;
}

export const FONT = 'system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", "DejaVu Sans", sans-serif';

export function write(context, text, x, y, { colour, size = 12, align = "left", base = "alphabetic", weight = 400 }) {
  context.font = `${weight} ${size}px ${FONT}`;
  context.fillStyle = colour;
  context.textAlign = align;
  context.textBaseline = base;
  context.fillText(text, x, y);
}

/** `m:ss` of media seconds. */
export function clock(seconds) {
  const whole = Math.max(0, Math.round(seconds));
  return `${Math.floor(whole / 60)}:${String(whole % 60).padStart(2, "0")}`;
}
