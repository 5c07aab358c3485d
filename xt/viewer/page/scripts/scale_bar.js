import { leaflet as L } from "nicegui-leaflet";

const WIDEST = 140;
const MICRONS = [[1e3, "mm"], [1, "µm"]];
const METRES = [[1e3, "km"], [1, "m"], [1e-2, "cm"]];
const PIXELS = [[1, "px"]];

/** A bar of a round length: micrometres of a slide, metres of a map, pixels where nothing is known. */
export class ScaleBar {
  constructor(map, facts) {
    this.map = map;
    const size = facts.microns_per_pixel ?? facts.metres_per_pixel;
    this.units = facts.microns_per_pixel ? MICRONS : facts.metres_per_pixel ? METRES : PIXELS;
    this.across = size ? size[1] : 1;
    this.element = L.DomUtil.create("div", "xt-scale", map.getContainer());
    map.on("zoom viewreset resize", () => this.draw());
    this.draw();
  }

  draw() {
    // How much of the image a pixel of the screen shows.
    const pixel = this.map.getZoomScale(this.map.options.deepest, this.map.getZoom()) * this.across;
    const length = roundBelow(WIDEST * pixel);
    const [factor, unit] = this.units.find(([least]) => length >= least) ?? this.units.at(-1);
    this.element.textContent = `${Number((length / factor).toPrecision(3))} ${unit}`;
    this.element.style.width = `${length / pixel}px`;
  }
}

/** The largest of 1, 2 and 5 times a power of ten that is not above a number. */
export function roundBelow(number) {
  const power = 10 ** Math.floor(Math.log10(number));
  return power * [5, 2, 1].find((step) => step * power <= number);
}
