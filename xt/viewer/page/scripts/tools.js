const KEYS = { v: "edit", p: "point", b: "box", g: "polygon" };
const DELETE = new Set(["delete", "backspace"]);

/**
 * The tool in hand and the keys and buttons that take it up. All of it happens in the browser, so that a click right
 * after a key meets the tool; the server is told.
 */
export class Tools {
  /**
   * @param taken called with the tool: "edit", "point", "box" or "polygon"; undefined for none.
   * @param remove called where what is chosen is to be deleted.
   */
  constructor(taken, remove) {
    this.taken = taken;
    this.remove = remove;
    this.allowed = [];
    this.listening = [["keydown", (event) => this.key(event)], ["click", (event) => this.click(event)]];
    for (const [what, listener] of this.listening) document.addEventListener(what, listener);
  }

  /** @param allowed those that the image's labels let one draw with. */
  allow(allowed) {
    this.allowed = allowed;
    if (this.inHand && !allowed.includes(this.inHand)) this.take(undefined);
  }

  /** Taken again, a tool is put down. */
  take(tool) {
    if (tool && !this.allowed.includes(tool)) return;
    this.inHand = tool === this.inHand ? undefined : tool;
    for (const button of document.querySelectorAll("[data-tool]")) {
      button.setAttribute("aria-pressed", button.dataset.tool === this.inHand);
    }
    this.taken(this.inHand);
  }

  key(event) {
    const writing = document.activeElement?.closest("input, select, textarea");
    if (writing || event.repeat || event.ctrlKey || event.metaKey || event.altKey) return;
    const key = event.key.toLowerCase();
    if (key in KEYS) this.take(KEYS[key]);
    else if (key === "escape" && this.inHand) this.take(undefined);
    else if (DELETE.has(key)) this.remove();
  }

  click({ target }) {
    const button = target.closest("[data-tool]");
    if (button) this.take(button.dataset.tool);
  }

  stop() {
    for (const [what, listener] of this.listening) document.removeEventListener(what, listener);
  }
}
