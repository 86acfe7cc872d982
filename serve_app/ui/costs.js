/** The page of costs: over time, by session or user, by tool, budgets, and what would have cost less. */

import { Api } from "./api.js";
import { gauge, OTHERS, shareCell, stackedBars, table } from "./charts.js";
import { h, setText } from "./dom.js";
import { until, usd, usdBriefly } from "./format.js";

const KEY = "greenroom.key";
const THEME = "greenroom.theme";
const SERIES = 6;

const $ = (id) => document.getElementById(id);
const count = (number) => number.toLocaleString("en");
const money = (micros) => usdBriefly(micros, true);
const seconds = (value) => `${value.toLocaleString("en", { maximumSignificantDigits: value < 100 ? 2 : 6 })} s`;

let api = null;
let loading = 0;

// Signing in -----------------------------------------------------------------------------------------

function signIn(key) {
  const attempt = new Api(key, (problem) => attempt === api && signOut(problem.message));
  api = attempt;
  load();
}

function signOut(reason = "") {
  api = null;
  localStorage.removeItem(KEY);
  $("costs").hidden = true;
  $("sign-in").hidden = false;
  setText($("sign-in-reason"), reason);
  $("key").focus();
}

// The report -----------------------------------------------------------------------------------------

/** What the controls say. Without the scope `admin` only the own rows can be asked for. */
function asked() {
  const period = document.querySelector("input[name=period]:checked").value;
  return { period, everyone: $("everyone").checked };
}

async function load() {
  const mine = (loading += 1);
  const { period, everyone } = asked();
  const ask = (params) => api.costs({ period, everyone, recommendations: false, ...params });
  $("report").setAttribute("aria-busy", "true");
  try {
    const [models, sessions, tools, users] = await Promise.all([
      ask({ group_by: "model", limit: SERIES, recommendations: true }),
      ask({ group_by: "session", limit: 10 }),
      ask({ group_by: "tool" }),
      // Who may see all users gets them by default.
      api.costs({ period, group_by: "user", limit: 10, recommendations: false }),
    ]);
    if (mine !== loading || !api) return;
    setText($("problem"), "");
    show({ models, sessions, tools, users, everyone });
  } catch (problem) {
    if (mine === loading && api) setText($("problem"), problem.message);
  }
  if (mine !== loading || !api) return;
  $("sign-in").hidden = true;
  $("costs").hidden = false;
  $("report").setAttribute("aria-busy", "false");
}

function show({ models, sessions, tools, users, everyone }) {
  localStorage.setItem(KEY, $("key").value.trim() || localStorage.getItem(KEY));
  $("key").value = "";
  $("whose").hidden = !users.everyone;
  showTotals(models);
  showBudgets(models.budgets);
  $("advice").hidden = !models.recommendations.length;
  $("advice-list").replaceChildren(...models.recommendations.map((one) => h("li", {}, one.text)));
  chart("over-time", "Cost by model", models, ({ micros }) => micros, money);
  groups("by-session", "Cost by session", "Session", sessions, (id) =>
    everyone ? id : h("a", { href: `/#session=${encodeURIComponent(id)}` }, id),
  );
  $("users").hidden = !users.everyone;
  if (users.everyone) groups("by-user", "Cost by user", "User", users, (id) => id);
  chart("tool-time", "Seconds in tools", tools, ({ wall_s }) => wall_s, seconds);
  showTools(tools);
}

function showTotals({ totals, start, end }) {
  const { cost, calls, other_uses: other, unknown_calls: unknown, running_calls: running, held_micros: held, usage } = totals;
  setText($("total"), usd(cost.micros, cost.known || !(calls + other)));
  const days = new Date(Date.parse(end) - 1);
  setText($("span"), `${dayOf(start)} to ${dayOf(days.toISOString())}, UTC`);
  const facts = [
    ["Model calls", count(calls)],
    ["Tools, sandboxes, embeddings", count(other)],
    ["Prompt tokens", count(usage.prompt_tokens)],
    ["… from a cache", count(usage.cached_tokens)],
    ["Completion tokens", count(usage.completion_tokens)],
    ["… for reasoning", count(usage.reasoning_tokens)],
  ];
  $("facts").replaceChildren(...facts.flatMap(([name, value]) => [h("dt", {}, name), h("dd", {}, value)]));
  const parts = [`The cost of ${count(unknown)} of ${count(calls + other)} calls is not known`];
  if (running) parts.push(`${count(running)} of them still run`);
  if (held) parts.push(`budgets were charged ${usd(held)} for them until it is`);
  setText($("unknown"), unknown ? `${parts.join("; ")}.` : "");
}

function showBudgets(budgets) {
  $("budgets").hidden = !budgets.length;
  const names = { hour: "This hour", day: "Today", month: "This month", total: "In all" };
  $("gauges").replaceChildren(
    ...budgets.map((one) => {
      const { spent_micros: spent, reserved_micros: reserved, limit_micros: limit, left_micros: left } = one;
      const resets = one.resets_at ? until(one.resets_at) : "";
      const text = [
        limit === null ? `${usd(spent)} spent, no limit` : `${usd(spent)} of ${usd(limit)}, ${usd(left)} left`,
        reserved ? `${usd(reserved)} held for calls that run` : "",
        one.flag ?? "",
        limit !== null && resets ? `new ${resets}` : "",
      ];
      return gauge({ name: names[one.window], spent, reserved, limit, text: text.filter(Boolean).join("; ") });
    }),
  );
}

function chart(id, caption, report, value, format) {
  const used = new Set(report.series.flatMap(({ groups: parts }) => parts.filter(value).map(({ group }) => group)));
  const names = report.data.filter(({ group }) => used.has(group)).map(({ group }) => group ?? OTHERS);
  const periods = report.series.map(({ start, groups: parts }) => ({
    label: labelOf(report.period, start),
    values: Object.fromEntries(parts.map((part) => [part.group ?? OTHERS, value(part)])),
  }));
  const isEmpty = !names.length;
  $(id).replaceChildren(
    isEmpty ? h("p", { class: "none" }, "Nothing in this time.") : stackedBars({ caption, periods, names, format }),
  );
}

function groups(id, caption, head, report, link) {
  const rows = report.data.map((row) => [
    row.group === null ? OTHERS : link(row.group),
    usd(row.cost.micros, row.cost.known),
    shareCell(row.share),
    count(row.calls),
    count(row.usage.prompt_tokens),
    count(row.usage.completion_tokens),
  ]);
  const heads = [head, "Cost", "Share", "Calls", "Prompt", "Completion"];
  $(id).replaceChildren(rows.length ? table(caption, heads, rows) : h("p", { class: "none" }, "Nothing in this time."));
}

function showTools({ data, truncated }) {
  const rows = data.map(({ group, cost, calls, share, tool }) => [
    group,
    usd(cost.micros, cost.known),
    count(calls),
    count(tool.failed + tool.unknown),
    seconds(tool.wall_s),
    count(tool.output_chars),
    count(tool.prompt_tokens_estimate),
    shareCell(share),
  ]);
  const heads = ["Tool", "Cost", "Calls", "Failed", "Time", "Characters out", "Later prompt tokens*", "Of all prompts*"];
  $("by-tool").replaceChildren(...(rows.length ? [table("Use of tools", heads, rows)] : []));
  setText($("cut"), truncated ? "There were more calls than are looked at: these figures are too low." : "");
}

function dayOf(time) {
  return new Date(time).toLocaleDateString("en-GB", { day: "numeric", month: "short", year: "numeric", timeZone: "UTC" });
}

function labelOf(period, start) {
  const month = period === "monthly" ? { month: "short", year: "numeric" } : { day: "numeric", month: "short" };
  return new Date(start).toLocaleDateString("en-GB", { ...month, timeZone: "UTC" });
}

// Wiring ---------------------------------------------------------------------------------------------

/** Fetched with the key, which a plain link could not send. */
async function save(button) {
  const { period, everyone } = asked();
  const { group: group_by, format } = button.dataset;
  button.disabled = true;
  try {
    const content = await api.costFile({ period, everyone, group_by, format, limit: 100 });
    const link = h("a", { href: URL.createObjectURL(content), download: `greenroom-costs-${group_by}-${period}.${format}` });
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
  } catch (problem) {
    setText($("problem"), problem.message);
  }
  button.disabled = false;
}

function toggleTheme() {
  const system = matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
  const next = (document.documentElement.dataset.theme ?? system) === "dark" ? "light" : "dark";
  document.documentElement.dataset.theme = next;
  localStorage.setItem(THEME, next);
}

$("controls").addEventListener("change", load);
$("theme").addEventListener("click", toggleTheme);
$("reload").addEventListener("click", load);
document.addEventListener("click", ({ target }) => {
  const button = target.closest("button[data-format]");
  if (button) save(button);
});
$("sign-in-form").addEventListener("submit", (event) => {
  event.preventDefault();
  signIn($("key").value.trim());
});
addEventListener("storage", ({ key, newValue }) => key === KEY && !newValue && api && signOut());
if (localStorage.getItem(KEY)) signIn(localStorage.getItem(KEY));
else signOut();
