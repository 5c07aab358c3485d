import { leaflet as L } from "nicegui-leaflet";
import * as addresses from "./addresses.js";
import { boundsOf, pixelPlane } from "./crs.js";
import { Overview } from "./overview.js";
import { Pencil } from "./pencil.js";
import { Readout } from "./readout.js";
import { ScaleBar } from "./scale_bar.js";
import { Tiles } from "./tiles.js";

// How far beyond the image's own pixels one may zoom in, and beyond one tile out.
const FURTHER_IN = 5;
const FURTHER_OUT = -2;

/** One image with its layers, under the mouse. */
export class ImageMap {
  constructor(element, facts, readout, report) {
    this.facts = facts;
    this.element = element;
    this.map = L.map(element, {
      crs: pixelPlane(facts.deepest),
      deepest: facts.deepest,
      minZoom: FURTHER_OUT,
      maxZoom: facts.deepest + FURTHER_IN,
      maxBounds: boundsOf(facts).pad(0.6),
      attributionControl: false,
      zoomControl: false,
      boxZoom: true,
      doubleClickZoom: false,
      zoomSnap: 1,
      wheelDebounceTime: 5,
      wheelPxPerZoomLevel: 90,
    });
    this.map.fitBounds(boundsOf(facts), { animate: false });
    this.tiles = new Tiles(this.map, facts);
    this.scale = new ScaleBar(this.map, facts);
    this.overview = new Overview(this.map, facts, addresses.thumbnail(facts.number));
    this.readout = new Readout(this.map, facts, readout);
    this.pencil = new Pencil(this.map, facts, report);
    // Beyond its own pixels the image shows them as squares, not blurred.
    const sharpen = () => element.classList.toggle("xt-squares", this.map.getZoom() > facts.deepest);
    this.map.on("zoomend", sharpen);
    sharpen();
    this.resizing = new ResizeObserver(() => this.map.invalidateSize({ animate: false }));
    this.resizing.observe(element);
  }

  /** A side of the scene, as `scene.py` tells it. */
  show({ facts, look, layers }) {
    const { number } = facts;
    // Its layers may be others by now.
    this.facts = this.readout.facts = facts;
    const image = { key: "image", address: addresses.imageTiles(number, look), opacity: 1 };
    const above = layers.map(({ key, words, opacity }) => ({
      key: `layer ${key}`,
      address: addresses.layerTiles(number, key, words),
      opacity,
    }));
    this.tiles.show([image, ...above]);
  }

  /** What is in view as (y, x, height, width) in level-0 pixels, inside the image. */
  window() {
    const view = this.map.getBounds();
    const { height, width } = this.facts;
    const [top, bottom] = [view.getSouth(), view.getNorth()].map((y) => Math.min(height, Math.max(0, y)));
    const [left, right] = [view.getWest(), view.getEast()].map((x) => Math.min(width, Math.max(0, x)));
    return [top, left, bottom - top, right - left].map(Math.round);
  }

  fit() {
    this.map.fitBounds(boundsOf(this.facts));
  }

  remove() {
    this.resizing.disconnect();
    this.map.remove();
  }
}
