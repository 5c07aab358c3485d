import * as addresses from "./addresses.js";

// The server is asked at most this often while the mouse moves.
const PAUSE_MS = 60;
const REACH = 6;

/** A line that says where the cursor is and what the image and its layers hold there. */
export class Readout {
  constructor(map, facts, element) {
    this.map = map;
    this.facts = facts;
    this.element = element;
    map.on("mousemove", (event) => this.at(event.latlng));
    map.on("mouseout", () => this.leave());
    map.on("zoomend", () => this.zoomed());
    this.zoomed();
  }

  at({ lat, lng }) {
    const [y, x] = [Math.floor(lat), Math.floor(lng)];
    if (y < 0 || x < 0 || y >= this.facts.height || x >= this.facts.width) return this.leave();
    if (this.y === y && this.x === x) return undefined;
    [this.y, this.x] = [y, x];
    this.say("place", `y ${y}  x ${x}`);
    this.told = false;
    this.timer ??= setTimeout(() => this.ask(), PAUSE_MS);
    return undefined;
  }

  async ask() {
    this.timer = undefined;
    if (this.y === undefined) return;
    const [y, x] = [this.y, this.x];
    this.asked?.abort();
    this.asked = new AbortController();
    try {
      const answer = await fetch(this.address(), { signal: this.asked.signal });
      const found = await answer.json();
      if (answer.ok) this.tell(found);
      else this.say("values", found.error);
      // An answer about where the cursor was is followed by one about where it is.
      this.told = this.y === y && this.x === x;
    } catch (error) {
      if (error.name !== "AbortError") this.say("values", "the server does not answer");
    }
  }

  address() {
    // What is within a few pixels of the screen is meant.
    const reach = REACH * this.map.getZoomScale(this.facts.deepest, this.map.getZoom());
    return addresses.value(this.facts.number, this.y, this.x, reach);
  }

  tell(found) {
    const values = this.facts.channels.map(({ name }, number) => {
      const value = found.there[number] ? plain(found.values[number]) : "missing";
      return `${name} ${value}`;
    });
    this.say("map", found.map ? `${plain(found.map[0], 9)}, ${plain(found.map[1], 9)}` : "");
    this.say("values", values.slice(0, 8).join("   "));
    const layers = this.facts.layers.filter(({ name }) => found.layers[name]);
    this.say("layers", layers.map(({ name, title }) => `${title}: ${said(found.layers[name])}`).join("   "));
  }

  leave() {
    this.asked?.abort();
    clearTimeout(this.timer);
    this.y = this.x = this.timer = undefined;
    for (const part of ["place", "map", "values", "layers"]) this.say(part, "");
  }

  zoomed() {
    const scale = this.map.getZoomScale(this.map.getZoom(), this.facts.deepest);
    this.say("zoom", scale >= 1 ? `${Number(scale.toPrecision(3))} : 1` : `1 : ${Number((1 / scale).toPrecision(3))}`);
  }

  /** Text only: what files say is never markup. */
  say(part, text) {
    const found = this.element.querySelector(`.${part}`);
    if (found) found.textContent = text;
  }
}

/** A number as people read it: whole ones in full, others to so many digits. */
export function plain(number, digits = 5) {
  if (number === null || number === undefined) return "none";
  return Number.isInteger(number) ? String(number) : String(Number(number.toPrecision(digits)));
}

/** What a layer says at a place: a class, with how sure or how relevant it is. */
function said({ class: name, score, share, relevance }) {
  const number = score ?? share ?? relevance;
  const words = [name, number === null || number === undefined ? undefined : plain(number, 3)];
  return words.filter((word) => word !== undefined).join(" ");
}
