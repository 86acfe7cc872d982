/** Numbers and times as people read them. */

const RELATIVE = new Intl.RelativeTimeFormat("en", { numeric: "auto", style: "short" });
const LONG = new Intl.RelativeTimeFormat("en", { style: "long" });
const STEPS = [["second", 60], ["minute", 60], ["hour", 24], ["day", 7], ["week", 4.35], ["month", 12], ["year", Infinity]];

/** Micro-dollars: up to six places below a dollar, where a turn lives, two above. `known` false: a lower bound. */
export function usd(micros, known = true) {
  const dollars = micros / 1e6;
  const text = dollars.toLocaleString("en", {
    minimumFractionDigits: 2,
    maximumFractionDigits: Math.abs(dollars) < 1 ? 6 : 2,
  });
  if (known) return `$${text}`;
  return micros > 0 ? `at least $${text}` : "cost not known";
}

/** For lists: two significant digits below a dollar. */
export function usdBriefly(micros, known) {
  if (!known || micros === 0 || micros >= 1e6) return usd(micros, known);
  return `$${(micros / 1e6).toLocaleString("en", { maximumSignificantDigits: 2, minimumFractionDigits: 2 })}`;
}

export function tokens(count) {
  return `${count.toLocaleString("en")} token${count === 1 ? "" : "s"}`;
}

/** Tokens and cost of a `spent` member of an event. */
export function spentText(spent) {
  return `${tokens(totalTokens(spent))} · ${usd(spent.cost_micros, spent.cost_known)}`;
}

export function totalTokens({ usage }) {
  return usage.prompt_tokens + usage.completion_tokens;
}

export function duration(ms) {
  if (ms < 1000) return `${Math.round(ms)} ms`;
  if (ms < 60_000) return `${(ms / 1000).toFixed(1)} s`;
  return `${Math.floor(ms / 60_000)} min ${Math.round((ms % 60_000) / 1000)} s`;
}

/** "5 min. ago", from an RFC 3339 time. */
export function ago(time) {
  const seconds = (Date.parse(time) - Date.now()) / 1000;
  return seconds > -45 ? "just now" : relative(seconds, RELATIVE);
}

/** "in 5 minutes", from an RFC 3339 time; empty when that is past. */
export function until(time) {
  const seconds = (Date.parse(time) - Date.now()) / 1000;
  return seconds > 0 ? relative(Math.max(1, seconds), LONG) : "";
}

/** A day: "3 November 2026". */
export function day(time) {
  return new Date(time).toLocaleDateString("en-GB", { day: "numeric", month: "long", year: "numeric" });
}

function relative(seconds, format) {
  let amount = seconds;
  for (const [unit, size] of STEPS) {
    if (Math.abs(Math.round(amount)) < size) return format.format(Math.round(amount), unit);
    amount /= size;
  }
  return "";
}
