/** The files of the open session's workspace: a dialog that lists them, takes new ones, saves and deletes them. */

import { h, icon, setText } from "./dom.js";

const LIMIT = 200;

export class Files {
  #dialog;
  #list;
  #note;
  #input;
  #api = null;
  #id = null;

  constructor(dialog) {
    this.#dialog = dialog;
    this.#list = dialog.querySelector("ul");
    this.#note = dialog.querySelector("[role=status]");
    this.#input = dialog.querySelector("input[type=file]");
    this.#input.addEventListener("change", () => this.#upload([...this.#input.files]));
    dialog.querySelector(".upload").addEventListener("click", () => this.#input.click());
    this.#takeDrops();
  }

  open(api, id) {
    this.#api = api;
    this.#id = id;
    this.#list.replaceChildren();
    this.#dialog.showModal();
    return this.#refresh("");
  }

  async #refresh(done) {
    const id = this.#id;
    this.#say(done || "Looking …");
    const page = await this.#api.files(id, LIMIT).catch((problem) => this.#say(problem.message));
    if (!page || id !== this.#id) return;
    this.#list.replaceChildren(...page.data.map((entry) => this.#row(entry)));
    const cut = page.truncated ? ` These are the first ${LIMIT}.` : "";
    this.#say((done || (page.data.length ? "" : "No files yet.")) + cut);
  }

  #row(entry) {
    const folder = entry.type === "folder";
    const name = h("span", { class: "words", title: entry.path }, entry.path + (folder ? "/" : ""));
    const size = h("span", { class: "size" }, folder ? "" : `${entry.size_bytes.toLocaleString("en")} bytes`);
    const save = h("button", { type: "button", class: "quiet", "aria-label": `Download “${entry.path}”`, onclick: () => this.#download(entry) }, icon("down"));
    const remove = h("button", { type: "button", class: "quiet", "aria-label": `Delete “${entry.path}”` }, icon("trash"));
    const row = h("li", {}, name, size, !folder && save, remove);
    remove.addEventListener("click", () => this.#ask(row, entry));
    return row;
  }

  /** Deleting takes a second click, on a button that was not there before. */
  #ask(row, entry) {
    const before = [...row.childNodes];
    const keep = h("button", { type: "button" }, "Keep it");
    const remove = h("button", { type: "button", class: "danger" }, "Delete");
    keep.addEventListener("click", () => {
      row.replaceChildren(...before);
      before.at(-1).focus();
    });
    remove.addEventListener("click", () => this.#remove(entry));
    const what = entry.type === "folder" ? `Delete “${entry.path}” and all that is in it?` : `Delete “${entry.path}”?`;
    row.replaceChildren(h("span", { class: "words" }, what), keep, remove);
    keep.focus();
  }

  async #remove(entry) {
    try {
      await this.#api.removeFile(this.#id, entry.path);
    } catch (problem) {
      if (problem.status !== 404) return this.#say(`Not deleted. ${problem.message}`);
    }
    await this.#refresh(`Deleted “${entry.path}”.`);
    this.#dialog.querySelector(".upload").focus();
  }

  async #download(entry) {
    this.#say(`Fetching “${entry.path}” …`);
    try {
      const url = URL.createObjectURL(await this.#api.file(this.#id, entry.path));
      h("a", { href: url, download: entry.path.split("/").at(-1) }).click();
      setTimeout(() => URL.revokeObjectURL(url), 60_000);
      this.#say("");
    } catch (problem) {
      this.#say(`Not fetched. ${problem.message}`);
    }
  }

  async #upload(chosen) {
    this.#input.value = "";
    for (const file of chosen) {
      this.#say(`Uploading “${file.name}” …`);
      try {
        await this.#api.putFile(this.#id, file.name, file);
      } catch (problem) {
        await this.#refresh(`“${file.name}” was not uploaded. ${problem.message}`);
        return;
      }
    }
    if (chosen.length) await this.#refresh(chosen.length > 1 ? `Uploaded ${chosen.length} files.` : `Uploaded “${chosen[0].name}”.`);
  }

  #takeDrops() {
    const dialog = this.#dialog;
    dialog.addEventListener("dragover", (event) => {
      event.preventDefault();
      dialog.classList.add("over");
    });
    dialog.addEventListener("dragleave", () => dialog.classList.remove("over"));
    dialog.addEventListener("drop", (event) => {
      event.preventDefault();
      dialog.classList.remove("over");
      this.#upload([...event.dataTransfer.files]);
    });
  }

  #say(text) {
    setText(this.#note, text);
  }
}
