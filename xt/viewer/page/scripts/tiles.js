import { leaflet as L } from "nicegui-leaflet";
import { boundsOf } from "./crs.js";

// What was shown before stays no longer than this.
const LONGEST_MS = 3000;

/**
 * Tiles that are asked for when the frame that needs them was shown: a turn of the wheel is answered before dozens of
 * pictures are asked for, drawn by the server and decoded.
 */
const Pictures = L.TileLayer.extend({
  createTile(coordinates, done) {
    const tile = document.createElement("img");
    const address = this.getTileUrl(coordinates);
    tile.alt = "";
    tile.onload = () => done(null, tile);
    tile.onerror = () => done(new Error(`no picture at ${address}`), tile);
    requestAnimationFrame(() => setTimeout(() => {
      // The map may have moved on.
      if (tile.parentNode) tile.src = address;
    }));
    return tile;
  },
});

/** Pictures of the server over each other, each with its address and opacity; the first is the lowest. */
export class Tiles {
  constructor(map, facts) {
    this.map = map;
    this.facts = facts;
    this.shown = new Map();
  }

  /** Show these and no others: [{key, address, opacity}], where an address has {z}, {y} and {x}. */
  show(wanted) {
    const keys = new Set(wanted.map((one) => one.key));
    for (const [key, layer] of this.shown) {
      if (!keys.has(key)) {
        this.map.removeLayer(layer);
        this.shown.delete(key);
      }
    }
    wanted.forEach((one, number) => this.showOne(one, number + 1));
  }

  showOne({ key, address, opacity }, zIndex) {
    const before = this.shown.get(key);
    if (before && before.options.address === address) {
      before.setOpacity(opacity);
      before.setZIndex(zIndex);
      return;
    }
    const after = new Pictures(address, {
      address,
      opacity,
      zIndex,
      bounds: boundsOf(this.facts),
      noWrap: true,
      minNativeZoom: 0,
      maxNativeZoom: this.facts.deepest,
      minZoom: this.map.getMinZoom(),
      maxZoom: this.map.getMaxZoom(),
      keepBuffer: 1,
    });
    after.addTo(this.map);
    this.shown.set(key, after);
    // What was there stays until the new pictures are, so that moving a slider does not flicker.
    // Leaflet now and then does not say that all is loaded, so it goes in any case.
    if (before) {
      const drop = () => this.map.removeLayer(before);
      after.once("load", drop);
      setTimeout(drop, LONGEST_MS);
    }
  }
}
