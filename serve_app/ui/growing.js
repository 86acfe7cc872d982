/** Text that grows by previews. Offsets count characters (code points), where JavaScript counts UTF-16 units. */
export class Growing {
  text = "";
  #length = 0;
  #connection = 0;

  /** Text at offset 0 replaces what is shown on a new connection, or when it is not its beginning. */
  add({ offset, text }, connection) {
    const characters = Array.from(text);
    const resumed = connection !== this.#connection;
    this.#connection = connection;
    if (offset === 0 && (resumed || !this.text.startsWith(text))) {
      this.text = text;
      this.#length = characters.length;
    } else if (offset > this.#length) {
      this.text += `…${text}`; // what came between was missed; the completed message will have it
      this.#length = offset + characters.length;
    } else {
      const news = characters.slice(this.#length - offset);
      this.text += news.join("");
      this.#length += news.length;
    }
  }
}
