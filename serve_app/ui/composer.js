/** The message box: what is typed, the model it goes to, and the send and stop buttons. */

import { h, setText } from "./dom.js";

const MODEL = "greenroom.model";

export class Composer {
  #form;
  #input;
  #select;
  #label;
  #send;
  #stop;

  /** `form` is the composer of index.html; `onSend({text, model})` and `onStop()` are called by its buttons. */
  constructor(form, { onSend, onStop }) {
    this.#form = form;
    this.#input = form.querySelector("textarea");
    this.#select = form.querySelector("select");
    this.#label = form.querySelector("#session-model");
    this.#send = form.querySelector("#send");
    this.#stop = form.querySelector("#stop");
    this.#stop.addEventListener("click", onStop);
    this.#input.addEventListener("input", () => this.#fit());
    this.#input.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
      event.preventDefault();
      form.requestSubmit();
    });
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      const text = this.#input.value.trim();
      if (!text) return;
      this.#input.value = "";
      this.#fit();
      onSend({ text, model: this.model });
    });
    this.#select.addEventListener("change", () => localStorage.setItem(MODEL, this.#select.value));
  }

  /** The model that was chosen for new sessions, or null. */
  get model() {
    return this.#select.value || null;
  }

  /** Give back a message that was not accepted, before what was typed since. */
  giveBack(text) {
    this.#input.value = [text, this.#input.value].filter(Boolean).join("\n\n");
    this.#fit();
    this.focus();
  }

  focus() {
    this.#input.focus();
  }

  /** `model`: of the open session, or null where it can be chosen. */
  show({ running, stopping, model }) {
    if (this.#stop.contains(document.activeElement) && !running) this.focus();
    this.#stop.hidden = !running;
    this.#stop.disabled = stopping;
    this.#select.hidden = model !== null || this.#select.options.length === 0;
    setText(this.#label, model ?? "");
  }

  /** Fill the model picker: the remembered choice where it still exists, else the server's default. */
  offer({ data, default: standard }) {
    this.#select.replaceChildren(...data.map(({ id, name }) => h("option", { value: id }, name || id)));
    const remembered = localStorage.getItem(MODEL);
    this.#select.value = data.some(({ id }) => id === remembered) ? remembered : standard;
  }

  #fit() {
    this.#input.style.height = "auto";
    this.#input.style.height = `${this.#input.scrollHeight}px`;
    this.#send.disabled = !this.#input.value.trim();
  }
}
