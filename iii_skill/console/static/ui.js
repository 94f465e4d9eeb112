// The small parts of which all pages are made.
import { html, useEffect, useRef, useState, Value } from "./lib.js";

const ICONS = {
  state: "M4 6c0-1.7 3.6-3 8-3s8 1.3 8 3-3.6 3-8 3-8-1.3-8-3Zm0 0v12c0 1.7 3.6 3 8 3s8-1.3 8-3V6M4 12c0 1.7 3.6 3 8 3s8-1.3 8-3",
  tail: "M3 12h4l3-8 4 16 3-8h4",
  functions: "M8 4H6a2 2 0 0 0-2 2v4l-2 2 2 2v4a2 2 0 0 0 2 2h2M16 4h2a2 2 0 0 1 2 2v4l2 2-2 2v4a2 2 0 0 1-2 2h-2",
  triggers: "M13 2 4 14h7l-1 8 9-12h-7l1-8Z",
  workers: "M5 5h14v14H5zM9 9h6v6H9zM9 2v3M15 2v3M9 19v3M15 19v3M2 9h3M2 15h3M19 9h3M19 15h3",
  queues: "M4 6h16M4 12h16M4 18h10",
  chevron: "m9 6 6 6-6 6",
  back: "m15 6-6 6 6 6",
  plus: "M12 5v14M5 12h14",
  trash: "M4 7h16M9 7V4h6v3M6 7l1 13h10l1-13",
  pen: "M4 20h4L19 9l-4-4L4 16v4Z",
  search: "M11 4a7 7 0 1 0 0 14 7 7 0 0 0 0-14ZM20 20l-4-4",
  sun: "M12 8a4 4 0 1 0 0 8 4 4 0 0 0 0-8ZM12 2v2M12 20v2M4.9 4.9l1.4 1.4M17.7 17.7l1.4 1.4M2 12h2M20 12h2M4.9 19.1l1.4-1.4M17.7 6.3l1.4-1.4",
  moon: "M20 14.5A8 8 0 0 1 9.5 4 8 8 0 1 0 20 14.5Z",
  screen: "M3 5h18v11H3zM8 20h8M12 16v4",
  key: "M14.5 9.5a4 4 0 1 0-3.2 3.9L13 15h2v2h2v2h3v-3l-5.7-5.7c.1-.3.2-.5.2-.8ZM9.5 9h.01",
  check: "m5 12 5 5 9-10",
  warn: "M12 4 2.5 20h19L12 4Zm0 6v4m0 3v.01",
  pause: "M8 5v14M16 5v14",
  play: "M7 4v16l13-8L7 4Z",
  refresh: "M20 11a8 8 0 1 0-2.3 6.3M20 5v6h-6",
  help: "M9 9a3 3 0 1 1 4.5 2.6c-1 .6-1.5 1.2-1.5 2.4M12 18v.01",
  history: "M4 12a8 8 0 1 1 2.4 5.7M4 20v-5h5M12 8v4l3 2",
  clock: "M12 4a8 8 0 1 0 0 16 8 8 0 0 0 0-16ZM12 8v4l3 2",
  copy: "M9 9h11v11H9zM5 15H4V4h11v1",
};

export function Icon({ name }) {
  return html`<svg class="icon" viewBox="0 0 24 24" aria-hidden="true"><path d=${ICONS[name]} /></svg>`;
}

const SHOWN = /[\u0000-\u001f\u007f-\u009f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]/g;

/** A name on one line: what has no shape of its own, or turns what follows it round, is written as its number. */
export function plain(text) {
  const found = text.length > 300 ? `${text.slice(0, 300)}…` : text;
  return found.replace(SHOWN, (one) => `\\u${one.charCodeAt(0).toString(16).padStart(4, "0")}`);
}

/** A name that may be empty or strange. */
export function Name({ text }) {
  return text === "" ? html`<i class="faint">empty</i>` : html`<bdi>${plain(text)}</bdi>`;
}

export function bytes(size) {
  if (size < 1000) return `${size} B`;
  if (size < 999_500) return `${(size / 1000).toPrecision(3)} kB`;
  return `${(size / 1_000_000).toPrecision(3)} MB`;
}

export const count = (number) => number.toLocaleString("en").replaceAll(",", "\u2009");

export function clock(ms) {
  const at = new Date(ms);
  const two = (number) => String(number).padStart(2, "0");
  return `${two(at.getHours())}:${two(at.getMinutes())}:${two(at.getSeconds())}`;
}

/** A moment: the time of today, else with its day. */
export function moment(ms) {
  const at = new Date(ms);
  if (at.toDateString() === new Date().toDateString()) return clock(ms);
  const two = (number) => String(number).padStart(2, "0");
  return `${at.getFullYear()}-${two(at.getMonth() + 1)}-${two(at.getDate())} ${clock(ms)}`;
}

export function ago(ms) {
  const seconds = Math.max(0, Math.round((Date.now() - ms) / 1000));
  if (seconds < 2) return "now";
  if (seconds < 60) return `${seconds} s ago`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ago`;
  if (seconds < 86400) return `${Math.floor(seconds / 3600)} h ago`;
  return `${Math.floor(seconds / 86400)} d ago`;
}

export function Empty({ icon, title, children }) {
  return html`<div class="empty">
    ${icon && html`<span class="medal"><${Icon} name=${icon} /></span>`}
    <h2>${title}</h2>
    <div class="prose">${children}</div>
  </div>`;
}

/** What went wrong, and what to do. */
export function Trouble({ problem, retry }) {
  return html`<div class="trouble" role="alert">
    <${Icon} name="warn" />
    <div>
      <strong>${problem.message}</strong>
      ${problem.code && html`<code>${problem.code}</code>`}
    </div>
    ${retry && html`<button onClick=${retry}>Try again</button>`}
  </div>`;
}

export function Search({ value, onInput, label, onDown }) {
  return html`<label class="search">
    <${Icon} name="search" />
    <span class="hidden">${label}</span>
    <input
      type="search"
      data-search
      placeholder=${label}
      value=${value}
      autocomplete="off"
      spellcheck=${false}
      onInput=${(event) => onInput(event.target.value)}
      onKeyDown=${(event) => {
        if (event.key === "Escape") {
          if (value) {
            event.stopPropagation();
            onInput("");
          } else event.target.blur();
        } else if (event.key === "ArrowDown" || event.key === "Enter") {
          event.preventDefault();
          onDown?.();
        }
      }}
    />
    <kbd aria-hidden="true">/</kbd>
  </label>`;
}

/** A window above the page; Escape and the button close it, and the browser keeps the focus inside. */
export function Dialog({ title, onClose, children, wide }) {
  const box = useRef();
  useEffect(() => {
    const before = document.activeElement;
    box.current.showModal();
    return () => before?.isConnected && before.focus();
  }, []);
  return html`<dialog
    ref=${box}
    class=${wide ? "wide" : ""}
    aria-labelledby="dialog-title"
    onCancel=${(event) => {
      event.preventDefault();
      onClose();
    }}
    onKeyDown=${(event) => event.stopPropagation()}
  >
    <h2 id="dialog-title">${title}</h2>
    ${children}
  </dialog>`;
}

/** Ask before something that is not undone. */
export function Confirm({ title, children, verb, onYes, onClose }) {
  return html`<${Dialog} title=${title} onClose=${onClose}>
    <div class="prose">${children}</div>
    <div class="buttons">
      <button onClick=${onClose}>Cancel</button>
      <button class="danger" autofocus onClick=${onYes}>${verb}</button>
    </div>
  <//>`;
}

const notes = new Value([]);
let noteNumber = 0;

/** A sentence at the edge of the page, with something to do about it. */
export function note(text, { action, onAction, kind = "" } = {}) {
  const one = { text, action, onAction, kind, number: ++noteNumber };
  notes.set([...notes.now.slice(-2), one]);
  setTimeout(() => drop(one), action ? 12_000 : 5_000);
}

function drop(one) {
  notes.set(notes.now.filter((other) => other !== one));
}

export function Notes() {
  const [shown, show] = useState([]);
  useEffect(() => notes.follow(show), []);
  return html`<div class="notes" role="status">
    ${shown.map(
      (one) => html`<div class="note ${one.kind}" key=${one.number}>
        <span>${one.text}</span>
        ${one.action &&
        html`<button
          onClick=${() => {
            drop(one);
            one.onAction();
          }}
        >
          ${one.action}
        </button>`}
      </div>`,
    )}
  </div>`;
}
