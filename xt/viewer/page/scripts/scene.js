import { ImageMap } from "./image_map.js";
import { Pair } from "./pair.js";
import { Swipe } from "./swipe.js";
import { Tools } from "./tools.js";

/** One image, or two of them beside or over each other, as the page's Python side tells it. */
export class Scene {
  /** @param report called with (what, value) when something is done on the map. */
  constructor(element, report) {
    this.report = report;
    this.sides = element.querySelector(".xt-sides");
    this.readout = element.querySelector(".xt-readout");
    this.maps = [];
    const taken = (tool) => {
      this.maps[0]?.pencil.take(tool);
      this.report("taken", tool ?? null);
    };
    this.tools = new Tools(taken, () => this.maps[0]?.pencil.removeChosen());
  }

  /** @param wanted as `SceneElement.show` in Python sends it. */
  show(wanted) {
    const numbers = wanted.sides.map(({ facts }) => facts.number).join();
    if (numbers !== this.numbers || wanted.arrangement !== this.arrangement) this.rebuild(wanted, numbers);
    wanted.sides.forEach((side, index) => this.maps[index].show(side));
    // The first image is the one that is corrected.
    const { revision, tools } = wanted.pencil;
    this.tools.allow(tools);
    this.maps[0]?.pencil.show({ revision, tool: this.tools.inHand });
  }

  rebuild({ sides, arrangement, relation }, numbers) {
    const before = this.maps[0];
    const kept = before && sides[0]?.facts.number === before.facts.number;
    const view = kept && [before.map.getCenter(), before.map.getZoom()];
    this.clear();
    this.sides.className = `xt-sides xt-${arrangement}`;
    const elements = sides.map(() => this.sides.appendChild(document.createElement("div")));
    elements.forEach((element) => element.classList.add("xt-side"));
    this.maps = sides.map(({ facts }, index) => this.mapOf(elements[index], facts));
    if (view) this.maps[0].map.setView(...view, { animate: false });
    if (sides.length === 2) this.pair = new Pair(...this.maps, relation);
    if (arrangement === "swipe" && sides.length === 2) this.swipe = new Swipe(this.sides, elements[1]);
    [this.numbers, this.arrangement] = [numbers, arrangement];
  }

  mapOf(element, facts) {
    const one = new ImageMap(element, facts, this.readout, this.report);
    one.map.on("click", ({ latlng }) => {
      if (!one.pencil.tool) this.report("place", { number: facts.number, y: latlng.lat, x: latlng.lng });
    });
    return one;
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

  remove() {
    this.clear();
    this.tools.stop();
  }
}
