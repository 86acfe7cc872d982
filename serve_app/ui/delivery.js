/** Requests whose answer may get lost: a key that makes one safe to repeat, and repeating it so many times. */

export const TRIES = 6;
const FIRST_PAUSE_MS = 1000;
const LONGEST_PAUSE_MS = 15_000;

/** A key for the `Idempotency-Key` header. `randomUUID` is there on HTTPS and on localhost only. */
export function newKey() {
  if (crypto.randomUUID) return crypto.randomUUID();
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** Whether it is not known what became of a request, or the server only could not do it now. */
export function isLost(problem) {
  return problem.status === 0 || (problem.status >= 500 && problem.retryable);
}

/**
 * Call `attempt()` until its answer is not lost, `TRIES` times at most; rejects with the last Problem. Before each
 * repetition `onLost(problem, next)` is called with the number of the try to come. While the browser knows that it
 * is offline nothing is tried.
 */
export async function persist(attempt, onLost = () => {}) {
  for (let next = 2; ; next += 1) {
    try {
      return await attempt();
    } catch (problem) {
      if (!isLost(problem) || next > TRIES) throw problem;
      onLost(problem, next);
    }
    const longest = navigator.onLine ? Math.min(FIRST_PAUSE_MS * 2 ** (next - 2), LONGEST_PAUSE_MS) : Infinity;
    await pause(longest * (0.75 + Math.random() / 4));
  }
}

/** Wait, but not longer than until the browser is back online (the "Try now" button sends that event too). */
export function pause(ms, signal) {
  return new Promise((resolve) => {
    const done = () => {
      clearTimeout(timer);
      removeEventListener("online", done);
      signal?.removeEventListener("abort", done);
      resolve();
    };
    const timer = Number.isFinite(ms) ? setTimeout(done, ms) : null;
    addEventListener("online", done);
    signal?.addEventListener("abort", done);
  });
}
