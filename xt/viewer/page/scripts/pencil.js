import { leaflet as L } from "nicegui-leaflet";
import * as addresses from "./addresses.js";
import { TOOLS } from "./drawing.js";
import { cornersOf, movedBy, shapeOf } from "./shapes.js";

// More cannot be told apart on a screen, and would be slow: one has to zoom in.
const MOST_OBJECTS = 800;
const MOST_CORNERS = 300;
const NO_CLASS = "rgb(128, 128, 128)";

/** Draws and corrects objects of one image. What is done is reported, saved by the server, and then shown. */
export class Pencil {
  constructor(map, facts, report) {
    this.map = map;
    this.facts = facts;
    this.report = report;
    this.objects = L.layerGroup().addTo(map);
    this.handles = L.layerGroup().addTo(map);
    map.on("moveend", () => this.load());
    map.on("click", () => this.tool === "edit" && this.choose(undefined));
  }

  /** @param wanted {tool, revision}: as of `Tools`, and which corrections the server has. */
  show({ tool, revision }) {
    if (tool !== this.tool) this.take(tool);
    if (revision !== this.revision) {
      this.revision = revision;
      this.load();
    }
  }

  take(tool) {
    this.drawing?.remove();
    this.drawing = undefined;
    this.tool = tool;
    const container = this.map.getContainer();
    container.classList.toggle("xt-drawing", tool in TOOLS);
    if (tool in TOOLS) {
      const done = (kind, coordinates) => this.tell("drawn", { kind, coordinates });
      this.drawing = new TOOLS[tool](this.map, done);
    }
    this.choose(undefined);
    this.load();
  }

  /** Show what is in view of the objects. */
  async load() {
    this.asked?.abort();
    this.ready = false;
    if (!this.tool) {
      this.objects.clearLayers();
      return;
    }
    this.asked = new AbortController();
    const view = this.map.getBounds();
    const window = [view.getSouth(), view.getWest(), view.getNorth() - view.getSouth(), view.getEast() - view.getWest()];
    try {
      const answer = await fetch(addresses.corrections(this.facts.number, window), { signal: this.asked.signal });
      if (answer.ok) this.put(await answer.json());
    } catch (error) {
      if (error.name !== "AbortError") throw error;
    }
  }

  put({ objects, classes, revision }) {
    this.seen = revision;
    this.ready = true;
    this.colours = new Map(classes.map(({ name, colour }) => [name, `rgb(${colour.join(", ")})`]));
    this.objects.clearLayers();
    this.report("in-view", { count: objects.length, shown: objects.length <= MOST_OBJECTS });
    if (objects.length > MOST_OBJECTS) return;
    for (const object of objects) this.objects.addLayer(this.drawn(object));
    const chosen = objects.find(({ id }) => id === this.chosen?.id);
    this.choose(chosen, !chosen);
  }

  drawn(object) {
    const editable = this.tool === "edit";
    const colour = this.colours.get(object.class) ?? NO_CLASS;
    const shape = shapeOf(object, { color: colour, weight: 2, fillOpacity: 0.12, interactive: editable });
    shape.object = object;
    if (editable) {
      shape.on("mousedown", (event) => this.grab(shape, event));
      shape.on("click", (event) => L.DomEvent.stop(event));
    }
    return shape;
  }

  /** Choose an object, and move it with the mouse. */
  grab(shape, { latlng: from, originalEvent }) {
    if (originalEvent.button !== 0) return;
    const { object } = shape;
    this.choose(object);
    this.map.dragging.disable();
    let to = object.coordinates;
    const move = ({ latlng }) => {
      to = movedBy(object, latlng.lat - from.lat, latlng.lng - from.lng);
      this.handles.clearLayers();
      this.redraw({ ...object, coordinates: to });
    };
    const end = () => {
      this.map.off("mousemove", move).dragging.enable();
      document.removeEventListener("mouseup", end);
      if (to !== object.coordinates) this.move(object, to);
    };
    this.map.on("mousemove", move);
    document.addEventListener("mouseup", end);
  }

  redraw(object) {
    this.objects.eachLayer((shape) => shape.object.id === object.id && this.objects.removeLayer(shape));
    this.objects.addLayer(this.drawn(object));
  }

  move(object, coordinates) {
    this.tell("moved", { id: object.id, coordinates });
  }

  /** A change: of which image, and what was known of it, as another may be open when the server hears of it. */
  tell(what, change) {
    this.report(what, { ...change, number: this.facts.number, revision: this.seen ?? this.revision });
  }

  removeChosen() {
    if (!this.tool || !this.chosen) return;
    const { id } = this.chosen;
    this.choose(undefined);
    this.tell("removed", { id });
  }

  choose(object, tell = true) {
    const before = this.chosen;
    this.chosen = object;
    this.handles.clearLayers();
    if (object) this.addHandles(object);
    if (tell && before?.id !== object?.id) this.report("chosen", object ?? null);
  }

  addHandles(object) {
    const corners = cornersOf(object);
    const frame = shapeOf(object, { color: "#ffffff", weight: 4, fill: false, interactive: false, opacity: 0.9 });
    this.handles.addLayer(frame);
    frame.bringToBack();
    if (corners.length > MOST_CORNERS) return;
    for (const { at, pulled } of corners) {
      const icon = L.divIcon({ className: "xt-handle", iconSize: [11, 11] });
      const handle = L.marker(at, { draggable: true, icon });
      const to = () => pulled([handle.getLatLng().lat, handle.getLatLng().lng]);
      handle.on("drag", () => this.redraw({ ...object, coordinates: to() }));
      handle.on("dragend", () => this.move(object, to()));
      this.handles.addLayer(handle);
    }
  }
}
