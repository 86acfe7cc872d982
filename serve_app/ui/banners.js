/** The two banners: the connection is lost; the server says that not everything works. */

import { health } from "./api.js";
import { setText } from "./dom.js";

export class Banners {
  #lost = document.getElementById("lost");
  #health = document.getElementById("health");
  #headline = document.getElementById("health-headline");
  #words = document.getElementById("health-text");
  #onBack;
  #attempts = 0;
  #reachable = true;
  #hidden = null;

  /** `onBack()` is called when the server answers again after it did not. */
  constructor(onBack) {
    this.#onBack = onBack;
    document.getElementById("hide-health").addEventListener("click", () => {
      this.#hidden = this.#words.textContent;
      this.#health.hidden = true;
    });
    // The event that browsers send when the network is back: whoever waits for it tries again at once.
    document.getElementById("try-now").addEventListener("click", () => dispatchEvent(new Event("online")));
  }

  /** How often in a row the event stream could not be opened; 0 is connected. */
  connection(attempts) {
    this.#attempts = attempts;
    this.#showLost();
  }

  /** Ask /health and show what it says. A notice that was hidden comes back when its words change. */
  async check() {
    const report = await health();
    if (report && !this.#reachable) this.#onBack();
    this.#reachable = report !== null;
    this.#showLost();
    const faults = (report?.checks ?? []).filter(({ status }) => status !== "healthy");
    const words = faults.map(({ name, message }) => `${name.replaceAll("_", " ")}: ${message}`).join(" · ");
    setText(this.#headline, report?.status === "unhealthy" ? "The server is not healthy." : "Not everything works now.");
    setText(this.#words, words);
    this.#health.hidden = !report || report.status === "healthy" || words === this.#hidden;
  }

  #showLost() {
    // The first attempt to come back is made within a second or so: no word about it.
    this.#lost.hidden = this.#attempts < 2 && this.#reachable;
  }
}
