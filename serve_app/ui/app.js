/** The chat page: signing in, which session is open, the list of sessions, banners and shortcuts. */

import { Api } from "./api.js";
import { Banners } from "./banners.js";
import { absent, Chat } from "./chat.js";
import { Composer } from "./composer.js";
import { setText } from "./dom.js";
import { tokens, totalTokens, usd } from "./format.js";
import { stickToEnd } from "./scroll.js";
import { Sidebar, UNTITLED } from "./sidebar.js";

const KEY = "greenroom.key";
const THEME = "greenroom.theme";
const HEALTH_EVERY_MS = 30_000;
const PAGE = 20;

const $ = (id) => document.getElementById(id);
const wide = matchMedia("(min-width: 56rem)");
const toEnd = stickToEnd($("scroller"), $("content"), $("jump"));
const composer = new Composer($("composer"), { onSend: send, onStop: () => chat?.stop() });
const banners = new Banners(listSessions);
const sidebar = new Sidebar($("sessions"), $("more-sessions"), confirmDelete);

let api = null;
let chat = null;
let session = null; // the open session as the server last described it

// Signing in -----------------------------------------------------------------------------------------

/** Read the fragment, and take a key out of the address bar at once. */
function readFragment() {
  const fragment = new URLSearchParams(location.hash.slice(1));
  const key = fragment.get("key");
  if (key !== null) {
    fragment.delete("key");
    history.replaceState(null, "", fragment.size ? `#${fragment}` : location.pathname);
  }
  return { key: key?.trim(), id: fragment.get("session") };
}

async function signIn(key) {
  const attempt = new Api(key, (problem) => attempt === api && signOut(problem.message));
  leave();
  api = attempt;
  await listSessions();
  if (api !== attempt) return;
  localStorage.setItem(KEY, key);
  $("sign-in").hidden = true;
  $("app").hidden = false;
  open(readFragment().id);
  banners.check();
  await api.models().then((models) => composer.offer(models), (problem) => complain(problem.message));
  showChat();
}

function signOut(reason = "") {
  leave();
  api = null;
  localStorage.removeItem(KEY);
  $("app").hidden = true;
  $("sign-in").hidden = false;
  setText($("sign-in-reason"), reason);
  document.title = "Greenroom";
  $("key").focus();
}

function leave() {
  chat?.close();
  chat = null;
}

// The open session -----------------------------------------------------------------------------------

function goTo(id) {
  history.pushState(null, "", id ? `#session=${id}` : location.pathname);
  open(id);
  composer.focus();
}

function open(id) {
  leave();
  session = null;
  complain("");
  showDrawer(false);
  banners.connection(0);
  chat = new Chat(api, id, {
    transcript: $("transcript"),
    changed: (which) => which === chat && showChat(),
    created,
    ended: (which) => refresh(which.id),
    announce: (text) => setText($("live"), text),
    connection: (attempts) => banners.connection(attempts),
    gone(problem) {
      if (problem.status === 401) return;
      if (problem.status === 404) sidebar.remove(id);
      $("transcript").replaceChildren(absent(problem));
    },
    retry: sendText,
    complain,
  });
  sidebar.mark(id);
  showChat();
  toEnd();
  if (id) refresh(id);
}

function created(which) {
  if (which === chat) history.pushState(null, "", `#session=${which.id}`);
  refresh(which.id, { isNew: true });
}

/** Ask what a session is called and has cost by now. What goes wrong here, its event stream tells. */
async function refresh(id, options) {
  const fresh = await api.session(id).catch(() => null);
  if (!fresh) return;
  sidebar.update(fresh, options);
  if (chat?.id !== id) return;
  session = fresh;
  sidebar.mark(id);
  showChat();
}

function sendText(text) {
  return send({ text, model: composer.model });
}

async function send(message) {
  const to = chat;
  complain("");
  toEnd();
  try {
    await to.send(message);
  } catch (problem) {
    if (problem.status === 401) return;
    composer.giveBack(message.text);
    complain(`${problem.status === 0 ? "It is not certain that this was sent." : "Not sent."} ${problem.message}`);
  }
}

function showChat() {
  if (!chat) return;
  const title = session?.title || UNTITLED;
  setText($("title"), title);
  document.title = chat.id ? `${title} · Greenroom` : "Greenroom";
  const total = chat.spent ?? (session && { usage: session.usage, cost_micros: session.cost.micros, cost_known: session.cost.known });
  setText($("spent-tokens"), total ? `${tokens(totalTokens(total))} · ` : "");
  setText($("spent-cost"), total ? usd(total.cost_micros, total.cost_known) : "");
  $("empty").hidden = !chat.empty;
  composer.show({
    running: chat.active !== null,
    stopping: chat.active?.stopping ?? false,
    model: chat.id ? (session?.model ?? "") : null,
  });
}

function complain(text) {
  setText($("complaint"), text);
  $("complaint").hidden = !text;
}

// The list of sessions -------------------------------------------------------------------------------

/** What goes wrong here is told by the banners; the list is asked for again when the server is back. */
async function listSessions() {
  const page = await api.sessions().catch(() => null);
  if (page) sidebar.reset(page);
}

async function loadMore() {
  $("more-sessions").disabled = true;
  await api.sessions(sidebar.lastId).then((page) => sidebar.add(page), (problem) => complain(problem.message));
  $("more-sessions").disabled = false;
}

function confirmDelete({ id, title }) {
  const dialog = $("confirm");
  setText($("confirm-text"), `“${title || UNTITLED}” and its files will be gone for good.`);
  dialog.returnValue = "";
  dialog.onclose = async () => {
    if (dialog.returnValue !== "delete") return;
    try {
      await api.deleteSession(id);
    } catch (problem) {
      if (problem.status !== 404) return complain(`Not deleted. ${problem.message}`);
    }
    sidebar.remove(id);
    if (chat?.id === id) goTo(null);
  };
  dialog.showModal();
}

function step(by) {
  const id = sidebar.neighbour(by);
  if (id) goTo(id);
}

function showDrawer(isOpen) {
  document.body.dataset.drawer = isOpen ? "open" : "closed";
  $("menu").setAttribute("aria-expanded", String(isOpen));
  $("sidebar").inert = !isOpen && !wide.matches;
  if (isOpen) $("new-session").focus();
}

// Wiring ---------------------------------------------------------------------------------------------

function toggleTheme() {
  const system = matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
  const now = document.documentElement.dataset.theme ?? system;
  const next = now === "dark" ? "light" : "dark";
  document.documentElement.dataset.theme = next;
  localStorage.setItem(THEME, next);
}

const SHORTCUTS = {
  "Alt+KeyN": () => goTo(null),
  "Alt+ArrowUp": () => step(-1),
  "Alt+ArrowDown": () => step(1),
  Escape: () => (document.body.dataset.drawer === "open" ? closeDrawer() : chat?.stop()),
};
const SHORTCUTS_OUTSIDE_FIELDS = { "/": () => composer.focus(), "?": () => $("keys").showModal() };

function onKey(event) {
  if (!chat || event.isComposing || event.ctrlKey || event.metaKey || document.querySelector("dialog[open]")) return;
  const inField = event.target.closest("input, textarea, select");
  const act = SHORTCUTS[`${event.altKey ? "Alt+" : ""}${event.code}`] ?? (inField ? null : SHORTCUTS_OUTSIDE_FIELDS[event.key]);
  if (!act) return;
  event.preventDefault();
  act();
}

function closeDrawer() {
  showDrawer(false);
  $("menu").focus();
}

function listen() {
  const on = (id, act) => $(id).addEventListener("click", act);
  on("new-session", () => goTo(null));
  on("more-sessions", loadMore);
  on("menu", () => showDrawer(true));
  on("scrim", closeDrawer);
  on("theme", toggleTheme);
  on("show-keys", () => $("keys").showModal());
  on("sign-out", () => signOut());
  on("skip", (event) => {
    event.preventDefault(); // the fragment says which session is open
    composer.focus();
  });
  on("examples", ({ target }) => target.closest("button") && sendText(target.textContent));
  on("transcript", (event) => {
    if (!event.target.closest("[data-new]")) return;
    event.preventDefault();
    goTo(null);
  });
  $("sign-in-form").addEventListener("submit", (event) => {
    event.preventDefault();
    signIn($("key").value.trim());
    $("key").value = "";
  });
  document.addEventListener("keydown", onKey);
  wide.addEventListener("change", () => showDrawer(false));
  addEventListener("online", () => chat && banners.check());
  addEventListener("popstate", () => {
    const { key, id } = readFragment();
    if (key) signIn(key);
    else if (chat && chat.id !== id) open(id);
  });
  addEventListener("storage", ({ key, newValue }) => key === KEY && !newValue && api && signOut());
  setInterval(() => chat && !document.hidden && banners.check(), HEALTH_EVERY_MS);
  document.addEventListener("visibilitychange", () => {
    if (!chat || document.hidden) return;
    banners.check();
    if ($("sessions").children.length <= PAGE) listSessions();
  });
}

const { key } = readFragment();
listen();
if (key || localStorage.getItem(KEY)) signIn(key || localStorage.getItem(KEY));
else signOut();
