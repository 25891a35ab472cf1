// What publishers said: the last minute of each, as the server sends it.

export const HISTORY_S = 60;
const MOST_ROWS = 4000; // of one kind, whatever times they have

// Columns of a row, and the bits of its flags: see stream/page/feed.py.
export const FRAME = 0, TIME = 1, VALENCE = 2, AROUSAL = 3, VALENCE_SPREAD = 4, AROUSAL_SPREAD = 5, FLAGS = 6;
export const FACE = 1, VOICE = 2, WORDS = 4, DEGRADED = 8;

/** Whether there was anything to go by at a frame. */
export const seen = (row) => (row[FLAGS] & (FACE | VOICE | WORDS)) !== 0;

export class Publisher {
  constructor() {
    this.status = null;
    this.available = "";
    this.link = "ok";
    this.preview = null; // the face crop that was shown last
    this.forget();
  }

  forget() {
    this.provisional = [];
    this.settled = [];
    this.words = new Map();
    this.markers = [];
  }

  /** Takes one publisher's part of an update. */
  take(update) {
    if (update.anew) this.forget();
    for (const kind of ["provisional", "settled"]) {
      if (!update[kind]) continue;
      const rows = this[kind];
      rows.push(...update[kind]);
      const oldest = rows[rows.length - 1][TIME] - HISTORY_S;
      const keep = rows.findIndex((row) => row[TIME] >= oldest);
      if (keep > 0) rows.splice(0, keep);
      if (rows.length > MOST_ROWS) rows.splice(0, rows.length - MOST_ROWS);
    }
    if (update.status) this.status = update.status;
    if (update.available) this.available = update.available;
    if (update.link) this.link = update.link;
    if (update.preview) this.preview = update.preview;
    for (const [utterance, text, settled] of update.words ?? []) {
      this.words.delete(utterance);
      this.words.set(utterance, { text, settled });
      while (this.words.size > 8) this.words.delete(this.words.keys().next().value);
    }
    for (const [timeS, markedAt, text, origin] of update.markers ?? []) {
      this.markers.push({ timeS, markedAt, text, origin });
      if (this.markers.length > 64) this.markers.shift();
    }
  }

  /** The newest provisional row; the newest settled one where none is published. */
  get newest() {
    return this.provisional.at(-1) ?? this.settled.at(-1) ?? null;
  }
}

export class Store {
  constructor() {
    this.publishers = new Map();
  }

  clear() {
    this.publishers.clear();
  }

  take(update) {
    for (const [name, part] of Object.entries(update.publishers)) {
      if (!this.publishers.has(name)) this.publishers.set(name, new Publisher());
      this.publishers.get(name).take(part);
    }
  }

  get names() {
    return [...this.publishers.keys()].sort();
  }
}
