/** The chat page: signing in, which session is open, the list of sessions, banners and shortcuts. */

import { Api } from "./api.js";
import { Banners } from "./banners.js";
import { Chat } from "./chat.js";
import { Composer } from "./composer.js";
import { setText } from "./dom.js";
import { Files } from "./files.js";
import { showHeader } from "./header.js";
import { stickToEnd } from "./scroll.js";
import { Sidebar, UNTITLED } from "./sidebar.js";
import { absent } from "./transcript.js";

const KEY = "greenroom.key";
const THEME = "greenroom.theme";
const LOOK_EVERY_MS = 30_000;
const PAGE = 20;

const $ = (id) => document.getElementById(id);
const wide = matchMedia("(min-width: 56rem)");
const toEnd = stickToEnd($("scroller"), $("content"), $("jump"));
const composer = new Composer($("composer"), { onSend: send, onStop: () => chat?.stop() });
const files = new Files($("files"));
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
    queue: $("queue"),
    changed: (which) => which === chat && showChat(),
    created,
    ended: (which) => refresh(which.id),
    forked,
    origin,
    announce: (text) => setText($("live"), text),
    connection: (attempts) => banners.connection(attempts),
    gone(problem) {
      if (problem.status === 401) return;
      if (problem.status === 404) sidebar.remove(id);
      $("transcript").replaceChildren(absent(problem));
    },
    retry: sendText,
    giveBack,
    focus: () => composer.focus(),
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

/** Open a session that was just forked, unless its reader has gone elsewhere. */
function forked(which, copy, note) {
  sidebar.update(copy, { isNew: true });
  if (which !== chat) return;
  goTo(copy.id);
  complain(note);
  setText($("live"), "This is the forked session.");
}

/** Say what the session is called that a session was forked from. */
async function origin(which, id) {
  which.showOrigin();
  const title = await api.session(id).then((it) => it.title || UNTITLED, ({ status }) => (status === 404 ? null : undefined));
  if (which === chat) which.showOrigin(title);
}

function sendText(text) {
  send({ text, ...composer.choices });
}

function send(message) {
  complain("");
  toEnd();
  chat.send(message);
}

/** A message that was not accepted, or that its writer wants back. */
function giveBack(text, reason) {
  composer.giveBack(text);
  complain(reason);
}

function showChat() {
  if (!chat) return;
  const status = chat.status ?? session?.status ?? "idle";
  showHeader(chat, session, status);
  $("empty").hidden = !chat.empty;
  composer.show({
    active: chat.active !== null,
    running: chat.running,
    stopping: chat.active?.stopping ?? false,
    session: chat.id ? (session ?? {}) : null,
  });
  if (!session || session.status === status) return;
  session.status = status;
  sidebar.update(session);
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

/** Ask how the server is, and what the other sessions do. */
function lookAround() {
  if (!chat || document.hidden) return;
  banners.check();
  if ($("sessions").children.length <= PAGE) listSessions();
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
  on("pause", () => chat?.togglePause());
  on("show-files", () => files.open(api, chat.id));
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
  addEventListener("beforeunload", (event) => chat?.unsent && event.preventDefault());
  setInterval(lookAround, LOOK_EVERY_MS);
  document.addEventListener("visibilitychange", lookAround);
}

const { key } = readFragment();
listen();
if (key || localStorage.getItem(KEY)) signIn(key || localStorage.getItem(KEY));
else signOut();
