/** Two maps that move together: how positions of the first become positions of the second. */
export class Pair {
  /**
   * @param relation [scaleY, offsetY, scaleX, offsetX]: y of the second is scaleY * y of the first + offsetY, and so
   *   for x; in level-0 pixels of both.
   */
  constructor(first, second, [scaleY, offsetY, scaleX, offsetX]) {
    this.first = first;
    this.second = second;
    this.there = ({ lat, lng }) => [scaleY * lat + offsetY, scaleX * lng + offsetX];
    this.back = ({ lat, lng }) => [(lat - offsetY) / scaleY, (lng - offsetX) / scaleX];
    // Zooms count from each image's own pixels.
    this.deeper = second.facts.deepest - first.facts.deepest - Math.log2(scaleX);
    second.map.options.zoomSnap = Number.isInteger(this.deeper) ? 1 : 0;
    second.map.setMaxBounds(null);
    second.map.setMinZoom(first.map.getMinZoom() + this.deeper);
    second.map.setMaxZoom(first.map.getMaxZoom() + this.deeper);
    this.listening = [
      [first.map, () => this.follow(first.map, second.map, this.there, this.deeper)],
      [second.map, () => this.follow(second.map, first.map, this.back, -this.deeper)],
    ];
    for (const [map, follow] of this.listening) map.on("move zoom", follow);
    this.listening[0][1]();
  }

  follow(leader, other, convert, deeper) {
    // The other one's own movement, which this causes, must not come back.
    if (this.moving) return;
    this.moving = true;
    other.setView(convert(leader.getCenter()), leader.getZoom() + deeper, { animate: false });
    this.moving = false;
  }

  part() {
    for (const [map, follow] of this.listening) map.off("move zoom", follow);
  }
}
