// The changes of state: one stream for the whole page, resumed after the last cursor when it breaks.
import { Value } from "./lib.js";
import { askAbout, headers, locked, refused } from "./api.js";

const MOST = 3000;
const PAUSES = [300, 600, 1200, 2400];
/** A browser has six connections for all its tabs: one that nobody sees gives its own back, and goes on later. */
const UNSEEN_MS = 15_000;

/** connecting, live, away (the host), lost (the console), unavailable (an engine without changes) */
export const status = new Value("connecting");
/** Newest last; gaps, and changes that were left out, are rows too. */
export const rows = [];
export const arrived = new Value(0);
const listeners = new Set();

let cursor = null;
let number = 0;
let stop = null;

/** Call with every list of changes that comes (a row with `left` stands for so many that are not in it), and with null
    when some may have been missed. */
export function onChanges(listener) {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

export async function follow() {
  let failures = 0;
  for (;;) {
    if (locked.now) await unlocked();
    if (asleep) await seen();
    try {
      stop = new AbortController();
      const extra = cursor === null ? {} : { "last-event-id": cursor };
      const sent = headers();
      const response = await fetch("/api/changes", {
        headers: { ...sent, ...extra },
        signal: stop.signal,
      });
      if (response.status === 401) {
        refused(sent);
        continue;
      }
      if (!response.ok) throw new Error(String(response.status));
      failures = 0;
      for await (const event of events(response.body)) {
        if (take(event)) return;
      }
    } catch {
      // Cut; told by the status.
    }
    status.set("lost");
    await new Promise((done) => setTimeout(done, PAUSES[Math.min(failures++, PAUSES.length - 1)]));
  }
}

let asleep = false;
let timer = 0;

document.addEventListener("visibilitychange", () => {
  clearTimeout(timer);
  if (document.visibilityState === "visible") asleep = false;
  else timer = setTimeout(sleep, UNSEEN_MS);
});

/** Give the connection back until somebody looks. */
export function sleep() {
  asleep = true;
  cut();
}

function seen() {
  return new Promise((done) => {
    const look = () => {
      if (document.visibilityState !== "visible") return;
      document.removeEventListener("visibilitychange", look);
      done();
    };
    document.addEventListener("visibilitychange", look);
  });
}

/** Break the stream; it is resumed. */
export function cut() {
  stop?.abort();
}

function unlocked() {
  return new Promise((done) => {
    const leave = locked.follow((now) => {
      if (now) return;
      leave();
      done();
    });
  });
}

function take({ event, data, id }) {
  if (id) cursor = id;
  if (event === "ready") {
    status.set("live");
    askAbout().catch(() => {});
    tell(null);
  } else if (event === "changes") {
    status.set("live");
    const changes = JSON.parse(data);
    for (const change of changes) add(change);
    arrived.set(number);
    tell(changes);
  } else if (event === "gap") {
    if (rows.length) {
      add({ gap: true, at: Date.now() });
      arrived.set(number);
    }
    tell(null);
  } else if (event === "away") {
    status.set("away");
  } else if (event === "unavailable") {
    status.set("unavailable");
    return true;
  }
  return false;
}

function add(row) {
  row.number = ++number;
  rows.push(row);
  if (rows.length > MOST + 500) rows.splice(0, rows.length - MOST);
}

function tell(changes) {
  for (const listener of [...listeners]) listener(changes);
}

async function* events(stream) {
  const reader = stream.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    rest += value;
    let end;
    while ((end = rest.indexOf("\n\n")) >= 0) {
      const event = { event: "", data: "", id: "" };
      for (const line of rest.slice(0, end).split("\n")) {
        const colon = line.indexOf(": ");
        if (colon > 0) event[line.slice(0, colon)] = line.slice(colon + 2);
      }
      rest = rest.slice(end + 2);
      if (event.event) yield event;
    }
  }
}
