import { leaflet as L } from "nicegui-leaflet";

const LINE = { color: "#ffd23f", weight: 2, fillOpacity: 0.1, interactive: false };
const place = ({ lat, lng }) => [lat, lng];

/** A tool under the mouse; `done(kind, coordinates)` is called with what was drawn. */
class Tool {
  constructor(map, done) {
    this.map = map;
    this.done = done;
    this.listening = this.events();
    map.on(this.listening, this);
  }

  put(shape) {
    this.shape?.remove();
    this.shape = shape?.addTo(this.map);
  }

  remove() {
    this.put(undefined);
    this.map.off(this.listening, this);
  }
}

class PointTool extends Tool {
  events() {
    return { click: ({ latlng }) => this.done("point", place(latlng)) };
  }
}

class BoxTool extends Tool {
  events() {
    this.map.dragging.disable();
    return { mousedown: this.begin, mousemove: this.move, mouseup: this.end };
  }

  begin({ latlng, originalEvent }) {
    if (originalEvent.button === 0) this.start = latlng;
  }

  move({ latlng }) {
    if (this.start) this.put(L.rectangle(L.latLngBounds(this.start, latlng), LINE));
  }

  end({ latlng }) {
    if (!this.start) return;
    const coordinates = [...place(this.start), ...place(latlng)];
    const far = this.map.latLngToContainerPoint(this.start).distanceTo(this.map.latLngToContainerPoint(latlng));
    this.start = undefined;
    this.put(undefined);
    // A mere click is no box.
    if (far > 3) this.done("box", coordinates);
  }

  remove() {
    super.remove();
    this.map.dragging.enable();
  }
}

/** A click sets a corner; a double click, or one on the first corner, closes. */
class PolygonTool extends Tool {
  events() {
    this.corners = [];
    return { click: this.add, mousemove: this.move, dblclick: this.close };
  }

  add({ latlng }) {
    const first = this.corners[0];
    const near = first && this.onScreen(first).distanceTo(this.onScreen(place(latlng))) < 8;
    if (near && this.corners.length > 2) return this.close();
    // The second click of a double one lies on the first.
    const last = this.corners.at(-1);
    if (!last || this.onScreen(last).distanceTo(this.onScreen(place(latlng))) > 2) this.corners.push(place(latlng));
    return undefined;
  }

  move({ latlng }) {
    if (this.corners.length) this.put(L.polygon([...this.corners, place(latlng)], LINE));
  }

  close() {
    const corners = this.corners;
    this.corners = [];
    this.put(undefined);
    if (corners.length > 2) this.done("polygon", [corners]);
  }

  onScreen(at) {
    return this.map.latLngToContainerPoint(at);
  }
}

export const TOOLS = { point: PointTool, box: BoxTool, polygon: PolygonTool };
