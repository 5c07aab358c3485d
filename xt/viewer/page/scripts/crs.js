import { leaflet as L } from "nicegui-leaflet";

/**
 * Leaflet's flat plane with level-0 pixels as coordinates: latitude is y, downwards, longitude is x. At zoom `deepest` a
 * pixel of the image is one of the screen, at zoom 0 the whole image is one tile: as the server cuts its tiles.
 */
export function pixelPlane(deepest) {
  const scale = 2 ** -deepest;
  return L.extend({}, L.CRS.Simple, { transformation: new L.Transformation(scale, 0, scale, 0) });
}

export function boundsOf(facts) {
  return L.latLngBounds([0, 0], [facts.height, facts.width]);
}
