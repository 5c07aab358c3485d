import { leaflet as L } from "nicegui-leaflet";

const POINT_RADIUS = 6;

/** An object of the corrections as something on the map; coordinates are as the server has them, (y, x). */
export function shapeOf({ kind, coordinates }, style) {
  if (kind === "point") return L.circleMarker(coordinates, { ...style, radius: POINT_RADIUS });
  if (kind === "box") {
    const [top, left, bottom, right] = coordinates;
    return L.rectangle([[top, left], [bottom, right]], style);
  }
  return L.polygon(coordinates, style);
}

/** Where the corners are that can be pulled, each with what the coordinates are when it is elsewhere. */
export function cornersOf({ kind, coordinates }) {
  if (kind === "box") {
    return [[0, 1], [0, 3], [2, 1], [2, 3]].map(([row, column]) => ({
      at: [coordinates[row], coordinates[column]],
      pulled: ([y, x]) => coordinates.map((value, index) => (index === row ? y : index === column ? x : value)),
    }));
  }
  if (kind === "polygon") {
    return coordinates.flatMap((ring, outer) =>
      ring.map((at, inner) => ({
        at,
        pulled: (to) => coordinates.map((one, i) => (i === outer ? one.map((old, j) => (j === inner ? to : old)) : one)),
      })),
    );
  }
  return [];
}

/** The coordinates of an object that was moved as a whole. */
export function movedBy({ kind, coordinates }, y, x) {
  if (kind === "point") return [coordinates[0] + y, coordinates[1] + x];
  if (kind === "box") return coordinates.map((value, index) => value + (index % 2 ? x : y));
  return coordinates.map((ring) => ring.map(([down, across]) => [down + y, across + x]));
}
