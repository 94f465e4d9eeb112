// A text with line numbers and colours. The text area holds it as it is; the colours lie under it, and only
// the lines in sight are drawn. Nothing here reads a value: colours go by the looks of a line.
import { html, useEffect, useLayoutEffect, useMemo, useRef, useState } from "./lib.js";

const LINE = 20;
const PAD = 10;
const LONGEST = 4000;
const TOKEN = /("(?:[^"\\]|\\.)*"?)(\s*:)?|(-?\d[\d.eE+-]*)|\b(true|false|null)\b/g;

/** A line of JSON as coloured pieces. */
export function coloured(line) {
  const pieces = [];
  let done = 0;
  for (const found of line.matchAll(TOKEN)) {
    const [all, string, colon, number, word] = found;
    if (found.index > done) pieces.push(line.slice(done, found.index));
    const kind = colon ? "member" : string ? "string" : number ? "number" : word ? "word" : "";
    const text = colon ? string : all;
    pieces.push(html`<span class=${kind}>${text}</span>`);
    if (colon) pieces.push(colon);
    done = found.index + all.length;
  }
  pieces.push(line.slice(done));
  return pieces;
}

export function Editor({ text, readOnly, onInput, onKeyDown, label, wrong, area, onPlace, plain, autofocus }) {
  const own = useRef();
  const box = area ?? own;
  const [view, setView] = useState({ top: 0, left: 0, height: 400 });
  const lines = useMemo(() => text.split("\n"), [text]);
  const colours = useMemo(() => !plain && !lines.some((line) => line.length > LONGEST), [lines, plain]);
  const look = () => {
    const { scrollTop, scrollLeft, clientHeight } = box.current;
    setView({ top: scrollTop, left: scrollLeft, height: clientHeight });
  };
  useLayoutEffect(() => {
    const observer = new ResizeObserver(look);
    observer.observe(box.current);
    return () => observer.disconnect();
  }, []);
  useEffect(() => {
    if (autofocus) box.current.focus();
  }, []);
  useLayoutEffect(() => {
    // A browser puts the caret behind a text that it is given: an edit would begin at its end.
    if (readOnly) box.current.setSelectionRange(0, 0);
  }, [text]);
  const place = () => {
    if (!onPlace) return;
    const before = box.current.value.slice(0, box.current.selectionStart);
    const line = before.split("\n").length;
    onPlace({ line, column: before.length - before.lastIndexOf("\n") });
  };
  const first = Math.max(0, Math.floor((view.top - PAD) / LINE));
  const last = Math.min(lines.length, Math.ceil((view.top + view.height) / LINE) + 1);
  const digits = String(lines.length).length;
  const shift = { transform: `translateY(${first * LINE - view.top}px)` };
  const numbers = [];
  const drawn = [];
  for (let at = first; at < last; at++) {
    numbers.push(html`<div key=${at} class=${wrong?.line === at + 1 ? "wrong" : ""}>${at + 1}</div>`);
    if (colours) drawn.push(html`<div key=${at}>${coloured(lines[at])}</div>`);
  }
  return html`<div class="editor ${readOnly ? "still" : ""} ${colours ? "coloured" : ""}">
    <div class="gutter" aria-hidden="true" style=${{ width: `${Math.max(2, digits) + 2}ch` }}>
      <div style=${shift}>${numbers}</div>
    </div>
    <div class="paper">
      ${wrong &&
      html`<div class="mark" style=${{ transform: `translateY(${(wrong.line - 1) * LINE + PAD - view.top}px)` }} />`}
      ${colours &&
      html`<div class="ink" aria-hidden="true">
        <div
          style=${{ transform: `translate(${-view.left}px, ${first * LINE - view.top}px)` }}
        >${drawn}</div>
      </div>`}
      <textarea
        ref=${box}
        dir="ltr"
        wrap="off"
        spellcheck=${false}
        autocapitalize="off"
        autocomplete="off"
        aria-label=${label}
        aria-invalid=${wrong ? "true" : undefined}
        readOnly=${readOnly}
        value=${text}
        onInput=${(event) => {
          onInput?.(event.target.value);
          place();
        }}
        onScroll=${look}
        onKeyDown=${onKeyDown}
        onKeyUp=${place}
        onClick=${place}
      />
    </div>
  </div>`;
}

/** Put the caret where something is wrong. */
export function goTo(area, offset) {
  const box = area.current;
  if (!box) return;
  box.focus();
  box.setSelectionRange(offset, Math.min(offset + 1, box.value.length));
  const line = box.value.slice(0, offset).split("\n").length - 1;
  box.scrollTop = Math.max(0, line * LINE - box.clientHeight / 2);
}
