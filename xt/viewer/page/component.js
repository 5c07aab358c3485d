import { Scene } from "xt-viewer";

/** The element of NiceGUI around the scene: properties come in, events go out. */
export default {
  template: `
    <div class="xt-scene">
      <div class="xt-sides"></div>
      <div class="xt-readout">
        <span class="zoom"></span><span class="place"></span><span class="map"></span>
        <span class="values"></span><span class="layers"></span>
      </div>
    </div>`,
  props: { scene: Object },
  mounted() {
    this.drawn = new Scene(this.$el, (what, value) => this.$emit(what, value));
    // For tests and the curious in the browser's console.
    this.$el.xtScene = this.drawn;
    if (this.scene) this.drawn.show(this.scene);
  },
  unmounted() {
    this.drawn.remove();
  },
  watch: {
    scene(wanted) {
      this.drawn.show(wanted);
    },
  },
  methods: {
    window() {
      return this.drawn.window();
    },
    fit() {
      this.drawn.fit();
    },
  },
};
