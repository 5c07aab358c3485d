import { leaflet as L } from "nicegui-leaflet";

const SIDE = 150;

/** The whole image in a corner with a frame around what is in view; a click or a drag moves the view there. */
export class Overview {
  constructor(map, facts, thumbnail) {
    this.map = map;
    this.scale = SIDE / Math.max(facts.height, facts.width);
    this.element = L.DomUtil.create("div", "xt-overview", map.getContainer());
    this.element.style.width = `${facts.width * this.scale}px`;
    this.element.style.height = `${facts.height * this.scale}px`;
    this.element.style.backgroundImage = `url("${thumbnail}")`;
    this.frame = L.DomUtil.create("div", "xt-frame", this.element);
    L.DomEvent.disableClickPropagation(this.element).disableScrollPropagation(this.element);
    this.element.addEventListener("pointerdown", (event) => {
      this.element.setPointerCapture(event.pointerId);
      this.goTo(event);
    });
    this.element.addEventListener("pointermove", (event) => event.buttons && this.goTo(event));
    map.on("move zoom resize", () => this.draw());
    this.draw();
  }

  goTo(event) {
    const box = this.element.getBoundingClientRect();
    this.map.panTo([(event.clientY - box.top) / this.scale, (event.clientX - box.left) / this.scale], {
      animate: false,
    });
  }

  draw() {
    const view = this.map.getBounds();
    const [top, bottom] = [view.getSouth(), view.getNorth()].map((y) => y * this.scale);
    const [left, right] = [view.getWest(), view.getEast()].map((x) => x * this.scale);
    Object.assign(this.frame.style, {
      top: `${top}px`,
      left: `${left}px`,
      height: `${bottom - top}px`,
      width: `${right - left}px`,
    });
  }
}
