/** The message box: what is typed, where it goes, what it does to a turn that runs, and the send and stop buttons. */

import { h, setText } from "./dom.js";

const MODEL = "greenroom.model";
const ASK = "greenroom.ask";
/** Tools that run code, which people may want to look at before it runs. */
const RUNS_CODE = ["run_python", "run_shell"];
const HELP = {
  idle: "Enter sends, Shift+Enter breaks the line",
  enqueue: "Enter queues it",
  steer: "Enter adds it at the next step",
  interrupt: "Enter stops this answer first",
};

export class Composer {
  #form;
  #input;
  #select;
  #ask;
  #onBusy;
  #help;
  #label;
  #send;
  #stop;

  /**
   * `form` is the composer of index.html; `onSend({text, model, approvals, onBusy})` and `onStop()` are called by its
   * buttons.
   */
  constructor(form, { onSend, onStop }) {
    this.#form = form;
    this.#input = form.querySelector("textarea");
    this.#select = form.querySelector("#model");
    this.#ask = form.querySelector("#ask");
    this.#onBusy = form.querySelector("#on-busy");
    this.#help = form.querySelector("#composer-help");
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
      onSend({ text, ...this.choices });
      this.#onBusy.value = "enqueue"; // the exception is for one message
      this.#explain();
    });
    this.#onBusy.addEventListener("change", () => this.#explain());
    this.#ask.checked = localStorage.getItem(ASK) === "true";
    this.#ask.addEventListener("change", () => localStorage.setItem(ASK, String(this.#ask.checked)));
    this.#select.addEventListener("change", () => localStorage.setItem(MODEL, this.#select.value));
  }

  /** What goes with a message: the model and the approvals of a new session, and what it does to a turn that runs. */
  get choices() {
    const onBusy = this.#onBusy.hidden ? "enqueue" : this.#onBusy.value;
    return { model: this.#select.value || null, approvals: this.#ask.checked ? RUNS_CODE : [], onBusy };
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

  /**
   * `session`: null for a new one, whose model and approvals can be chosen; else what is known of the open one.
   * `active`: there is something to stop; `running`: a turn was begun that a message may steer or interrupt.
   */
  show({ active, running, stopping, session }) {
    const leaving = (!active && this.#stop) || (!running && this.#onBusy);
    if (leaving && leaving === document.activeElement) this.focus();
    this.#stop.hidden = !active;
    this.#stop.disabled = stopping;
    this.#onBusy.hidden = !running;
    if (!running) this.#onBusy.value = "enqueue";
    this.#select.hidden = session !== null || this.#select.options.length === 0;
    this.#ask.parentElement.hidden = session !== null;
    setText(this.#label, session ? described(session) : "");
    this.#explain();
  }

  /** Fill the model picker: the remembered choice where it still exists, else the server's default. */
  offer({ data, default: standard }) {
    this.#select.replaceChildren(...data.map(({ id, name }) => h("option", { value: id }, name || id)));
    const remembered = localStorage.getItem(MODEL);
    this.#select.value = data.some(({ id }) => id === remembered) ? remembered : standard;
  }

  #explain() {
    setText(this.#help, HELP[this.#onBusy.hidden ? "idle" : this.#onBusy.value]);
  }

  #fit() {
    this.#input.style.height = "auto";
    this.#input.style.height = `${this.#input.scrollHeight}px`;
    this.#send.disabled = !this.#input.value.trim();
  }
}

/** The model of a session and, where people are asked, which tools wait for them. */
function described({ model = "", approvals = [] }) {
  if (approvals.length === 0) return model;
  const codeOnly = approvals.length === RUNS_CODE.length && RUNS_CODE.every((name) => approvals.includes(name));
  return `${model} · asks before ${codeOnly ? "running code" : approvals.join(", ")}`;
}
