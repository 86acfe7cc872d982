/**
 * Following a session: its whole history by pages, then its event stream for as long as it is wanted.
 * EventSource cannot send an Authorization header, so the stream is read by fetch.
 */

import { pause } from "./delivery.js";

const SILENCE_MS = 30_000;
const LONGEST_PAUSE_MS = 15_000;

/**
 * Read every event of a session once and in order, whatever the connection does. Ends when `signal` aborts or
 * when trying again cannot help; then it rejects with the Problem. The reader has
 * event(event), preview(preview), live() when a connection stands, lost(attempts) when one failed, and busy(): true
 * while a turn runs. A page that is out of sight and not busy gives its connection back until it is seen again.
 */
export async function follow(api, sessionId, reader, signal) {
  const position = { seq: 0, retryMs: 1000, attempts: 0 };
  let caughtUp = false;
  while (!signal.aborted) {
    try {
      if (!caughtUp) await readPages(api, sessionId, position, reader, signal);
      caughtUp = true;
      await inSight(reader, signal);
      await readStream(api, sessionId, position, reader, signal);
    } catch (error) {
      if (signal.aborted) return;
      if (error.status === 410) {
        position.seq = 0; // history was trimmed meanwhile: read what is left from its beginning
        caughtUp = false;
      } else if (error.status >= 400 && !error.retryable) throw error;
    }
    if (signal.aborted) return;
    position.attempts += 1;
    reader.lost(position.attempts);
    const longest = Math.min(position.retryMs * 2 ** (position.attempts - 1), LONGEST_PAUSE_MS);
    await pause(longest * (0.75 + Math.random() / 4), signal);
  }
}

async function readPages(api, sessionId, position, reader, signal) {
  for (;;) {
    const page = await api.eventPage(sessionId, position.seq, signal);
    for (const event of page.data) take(event, position, reader);
    if (!page.has_more || page.data.length === 0) return;
  }
}

async function readStream(api, sessionId, position, reader, signal) {
  const silence = new AbortController();
  let watchdog = 0;
  const alive = () => {
    clearTimeout(watchdog);
    watchdog = setTimeout(() => silence.abort(), SILENCE_MS);
  };
  alive();
  const either = AbortSignal.any([signal, silence.signal]);
  document.addEventListener("visibilitychange", () => outOfSight(reader) && silence.abort(), { signal: either });
  try {
    const response = await api.eventStream(sessionId, position.seq, either);
    position.attempts = 0;
    reader.live();
    for await (const frame of frames(response.body, alive)) {
      if (frame.retry) position.retryMs = frame.retry;
      if (!frame.data) continue;
      const data = JSON.parse(frame.data);
      if (frame.id === null) deliver(() => reader.preview(data));
      else take(data, position, reader);
    }
  } finally {
    clearTimeout(watchdog);
  }
}

/** Over HTTP/1.1 browsers open six connections to a server, for all their tabs together. */
function outOfSight(reader) {
  return document.hidden && !reader.busy();
}

async function inSight(reader, signal) {
  while (outOfSight(reader) && !signal.aborted) {
    await new Promise((resolve) => {
      document.addEventListener("visibilitychange", resolve, { once: true });
      signal.addEventListener("abort", resolve, { once: true });
    });
  }
}

function take(event, position, reader) {
  if (event.seq <= position.seq) return;
  position.seq = event.seq;
  deliver(() => reader.event(event));
}

/** A fault of the reader is reported as what it is, and is not taken for a lost connection. */
function deliver(call) {
  try {
    call();
  } catch (error) {
    reportError(error);
  }
}

async function* frames(body, onBytes) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    onBytes();
    const blocks = (rest + value).replaceAll("\r\n", "\n").split("\n\n");
    rest = blocks.pop();
    for (const block of blocks) yield parseFrame(block);
  }
}

function parseFrame(block) {
  const frame = { id: null, data: "", retry: null };
  for (const line of block.split("\n")) {
    const [, field, value] = /^([^:]*):? ?(.*)$/.exec(line);
    if (field === "data") frame.data += frame.data ? `\n${value}` : value;
    else if (field === "id") frame.id = value;
    else if (field === "retry") frame.retry = Number(value) || null;
  }
  return frame;
}
