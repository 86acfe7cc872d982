/** What a person is asked about a tool call: what it would do, until when, yes or no; then what was decided. */

import { h, icon, setText } from "./dom.js";
import { until } from "./format.js";
import { argumentNodes } from "./tool_arguments.js";

const TICK_MS = 15_000;
const MEANS = { approve: "approved", deny: "denied" };
const ICONS = { approved: "check", denied: "close", expired: "clock", cancelled: "close" };

export class ApprovalCard {
  #decide;
  #approval = null;
  #shown = null;
  #clock = 0;
  #reason = h("input", { type: "text", maxlength: "2000", "aria-label": "Reason (optional)", placeholder: "Reason (optional)" });
  #buttons = { approve: this.#button("approve", "Approve", "check"), deny: this.#button("deny", "Deny", "close") };
  #time = h("p", { class: "facts" });
  #problem = h("p", { class: "problem", role: "alert", hidden: true });

  /** `decide(approval, decision, reason, onLost)` rejects with the Problem. */
  constructor(decide) {
    this.#decide = decide;
    this.node = h("section", { class: "approval" });
    // Escape here leaves the field; it must not stop the turn.
    this.#reason.addEventListener("keydown", (event) => {
      if (event.key !== "Escape") return;
      event.stopPropagation();
      this.#buttons.approve.focus();
    });
  }

  /** `nameOf(user)` says who that is. */
  update({ name, input, approval }, nameOf) {
    const { id, status, by, reason } = approval;
    const shown = [id, status, by, reason, input].join("\n");
    if (this.#shown === shown) return;
    this.#shown = shown;
    clearInterval(this.#clock);
    const focused = this.node.contains(document.activeElement);
    this.node.dataset.state = status;
    if (status === "pending") {
      this.#ask(name, input, approval);
      return;
    }
    const words = h("p", { tabindex: "-1" }, icon(ICONS[status]), h("span", {}, outcome(approval, nameOf)));
    this.node.setAttribute("aria-label", `Approval of ${name}`);
    this.node.replaceChildren(words);
    if (focused) words.focus(); // the button that was pressed is gone
  }

  #ask(name, input, approval) {
    this.#approval = approval;
    const title = h("h5", {}, icon("hand"), h("span", {}, "Allow ", h("code", {}, name), " to do this?"));
    const choices = h("div", { class: "decision" }, this.#buttons.approve, this.#buttons.deny, this.#reason);
    this.node.setAttribute("aria-label", `Approval of ${name}: waiting for you`);
    this.node.replaceChildren(title, ...argumentNodes(input), choices, this.#problem, this.#time);
    this.#tell();
    this.#clock = setInterval(() => (this.node.isConnected ? this.#tell() : clearInterval(this.#clock)), TICK_MS);
  }

  #tell() {
    const { expiresAt, onExpiry } = this.#approval;
    const left = until(expiresAt);
    setText(this.#time, left ? `If nobody decides, it is ${MEANS[onExpiry]} ${left}.` : "The time to decide is over.");
    this.#time.title = new Date(expiresAt).toLocaleString();
  }

  async #choose(decision) {
    if (this.node.getAttribute("aria-busy")) return;
    this.#say("");
    this.node.setAttribute("aria-busy", "true");
    try {
      await this.#decide(this.#approval, decision, this.#reason.value.trim(), (words) => this.#say(words));
    } catch (problem) {
      this.#say(`Not decided. ${problem.message}`);
    }
    this.node.removeAttribute("aria-busy");
  }

  #say(text) {
    setText(this.#problem, text);
    this.#problem.hidden = !text;
  }

  #button(decision, label, name) {
    const onclick = () => this.#choose(decision);
    return h("button", { type: "button", class: decision === "approve" ? "primary" : null, onclick }, icon(name), label);
  }
}

function outcome({ status, by, reason, onExpiry }, nameOf) {
  switch (status) {
    case "approved":
    case "denied":
      return `${status === "approved" ? "Approved" : "Denied"} by ${nameOf(by)}${reason ? `: “${reason}”` : ""}`;
    case "expired":
      return `Nobody decided in time, so it was ${MEANS[onExpiry]}`;
    default:
      return "Nobody decided: the turn ended before";
  }
}
