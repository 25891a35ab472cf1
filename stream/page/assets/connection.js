// The stream of events: joined, lost, joined again.

const SILENT_MS = 7000; // the server says something every two seconds
const FIRST_WAIT_MS = 500, MOST_WAIT_MS = 5000;
const HIDDEN_MS = 15000; // a browser keeps six connections to a server: a tab that nobody sees gives its own back

export class Connection {
  /** `handlers`: hello(message), update(message), lost(), ended(), full() where too many look at the page already,
   *  locked() for a server that asks for its token. */
  constructor(address, handlers) {
    this.address = address;
    this.handlers = handlers;
    this.waitMs = FIRST_WAIT_MS;
    this.timers = {};
    document.addEventListener("visibilitychange", () => this.#onVisibility());
    this.open();
  }

  open() {
    this.close();
    const source = new EventSource(this.address);
    this.source = source;
    const on = (name, handle) =>
      source.addEventListener(name, (event) => {
        if (source !== this.source) return;
        this.#heard();
        handle(JSON.parse(event.data));
      });
    on("hello", (message) => {
      this.waitMs = FIRST_WAIT_MS;
      this.handlers.hello(message);
    });
    on("update", (message) => this.handlers.update(message));
    on("beat", () => {});
    on("bye", () => this.handlers.ended());
    source.addEventListener("error", () => source === this.source && this.#lose());
    this.#heard();
  }

  close() {
    clearTimeout(this.timers.silence);
    clearTimeout(this.timers.again);
    this.timers.again = null;
    this.source?.close();
    this.source = null;
  }

  #heard() {
    clearTimeout(this.timers.silence);
    this.timers.silence = setTimeout(() => this.#lose(), SILENT_MS);
  }

  #lose(say = this.handlers.lost) {
    this.close();
    say();
    this.timers.again = setTimeout(() => this.#tryAgain(), this.waitMs);
    this.waitMs = Math.min(MOST_WAIT_MS, this.waitMs * 1.6);
  }

  // An event stream does not say why it was refused: its address does.
  async #tryAgain() {
    const waiting = this.timers.again;
    const answer = await fetch(this.address, { method: "HEAD", cache: "no-store" }).catch(() => null);
    if (this.timers.again !== waiting) return; // closed or opened meanwhile
    if (answer?.status === 401) this.handlers.locked();
    else if (answer?.ok) this.open();
    else this.#lose(answer?.status === 503 ? this.handlers.full : this.handlers.lost);
  }

  #onVisibility() {
    clearTimeout(this.timers.hidden);
    if (document.hidden) this.timers.hidden = setTimeout(() => this.close(), HIDDEN_MS);
    else if (!this.source) this.open();
  }
}
