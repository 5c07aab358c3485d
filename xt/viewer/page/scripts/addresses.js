/** Where the server has what belongs to an image; images go by number. */
const root = (number) => `${window.path_prefix ?? ""}/images/${number}`;

export const imageTiles = (number, look) => `${root(number)}/tiles/{z}/{y}/{x}?${look}`;
export const layerTiles = (number, layer, words) =>
  `${root(number)}/layers/${encodeURIComponent(layer)}/{z}/{y}/{x}?${words}`;
export const thumbnail = (number) => `${root(number)}/thumbnail`;
export const value = (number, y, x, reach) => `${root(number)}/value?y=${y}&x=${x}&reach=${reach}`;
export const corrections = (number, window) => `${root(number)}/corrections?window=${window.join(",")}`;
