/** What the page's map is made of; `component.js` hands it to NiceGUI. */
export { Scene } from "./scene.js";
