/** A line over two maps that lie on each other: left of it the first is seen, right of it the second. */
export class Swipe {
  constructor(element, upper) {
    this.element = element;
    this.upper = upper;
    this.line = document.createElement("div");
    this.line.className = "xt-divider";
    element.append(this.line);
    this.line.addEventListener("pointerdown", (event) => this.line.setPointerCapture(event.pointerId));
    this.line.addEventListener("pointermove", (event) => {
      if (!event.buttons) return;
      const box = element.getBoundingClientRect();
      this.set(Math.min(0.98, Math.max(0.02, (event.clientX - box.left) / box.width)));
    });
    this.set(0.5);
  }

  set(share) {
    this.line.style.left = `${100 * share}%`;
    this.upper.style.clipPath = `inset(0 0 0 ${100 * share}%)`;
  }

  remove() {
    this.line.remove();
    this.upper.style.clipPath = "";
  }
}
