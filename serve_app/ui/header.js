/** The top of the open session: what it is called, what it has cost, whether it is paused. */

import { setText } from "./dom.js";
import { tokens, totalTokens, usd } from "./format.js";
import { UNTITLED } from "./sidebar.js";

const $ = (id) => document.getElementById(id);

/** `session` is what the server last said of it, or null; `status` is newer than that. */
export function showHeader(chat, session, status) {
  const title = session?.title || UNTITLED;
  setText($("title"), title);
  document.title = chat.id ? `${title} · Greenroom` : "Greenroom";
  const total = chat.spent ?? (session && { usage: session.usage, cost_micros: session.cost.micros, cost_known: session.cost.known });
  setText($("spent-tokens"), total ? `${tokens(totalTokens(total))} · ` : "");
  setText($("spent-cost"), total ? usd(total.cost_micros, total.cost_known) : "");
  $("show-files").hidden = chat.id === null;
  showPause(chat.id !== null, status === "paused");
}

function showPause(offered, paused) {
  const label = paused ? "Resume" : "Pause";
  $("paused").hidden = !paused;
  $("pause").hidden = !offered;
  $("pause").classList.toggle("primary", paused);
  $("pause").setAttribute("aria-label", label); // on narrow windows there is the icon alone
  $("pause-icon").setAttribute("href", paused ? "#i-play" : "#i-pause");
  setText($("pause-label"), label);
}
