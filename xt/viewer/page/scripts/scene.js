import { ImageMap } from "./image_map.js";
import { Pair } from "./pair.js";
import { Swipe } from "./swipe.js";

/** One image, or two of them beside or over each other, as the page's Python side tells it. */
export class Scene {
  /** @param report called with (what, value) when something is done on the map. */
  constructor(element, report) {
    this.report = report;
    this.sides = element.querySelector(".xt-sides");
    this.readout = element.querySelector(".xt-readout");
    this.maps = [];
  }

  /** @param wanted as `SceneElement.show` in Python sends it. */
  show(wanted) {
    const numbers = wanted.sides.map(({ facts }) => facts.number).join();
    if (numbers !== this.numbers || wanted.arrangement !== this.arrangement) this.rebuild(wanted, numbers);
    wanted.sides.forEach((side, index) => this.maps[index].show(side));
  }

  rebuild({ sides, arrangement, relation }, numbers) {
    const before = this.maps[0];
    const kept = before && sides[0]?.facts.number === before.facts.number;
    const view = kept && [before.map.getCenter(), before.map.getZoom()];
    this.clear();
    this.sides.className = `xt-sides xt-${arrangement}`;
    const elements = sides.map(() => this.sides.appendChild(document.createElement("div")));
    elements.forEach((element) => element.classList.add("xt-side"));
    this.maps = sides.map(({ facts }, index) => new ImageMap(elements[index], facts, this.readout));
    if (view) this.maps[0].map.setView(...view, { animate: false });
    if (sides.length === 2) this.pair = new Pair(...this.maps, relation);
    if (arrangement === "swipe" && sides.length === 2) this.swipe = new Swipe(this.sides, elements[1]);
    [this.numbers, this.arrangement] = [numbers, arrangement];
    for (const one of this.maps) one.map.on("click", ({ latlng }) => this.report("place", this.place(one, latlng)));
  }

  place(one, { lat, lng }) {
    return { number: one.facts.number, y: lat, x: lng };
  }

  window() {
    return this.maps[0]?.window();
  }

  fit() {
    this.maps[0]?.fit();
  }

  clear() {
    this.pair?.part();
    this.swipe?.remove();
    for (const map of this.maps) map.remove();
    this.sides.replaceChildren();
    this.pair = this.swipe = undefined;
    this.maps = [];
  }
}
