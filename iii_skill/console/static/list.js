// A list of any length: only the rows in sight are there, and the keyboard moves a cursor through all of them.
import { html, useEffect, useLayoutEffect, useRef, useState, useStable } from "./lib.js";

const BESIDE = 6;

/**
 * `row(index)` gives { attributes, content }, or null while it is not there yet; `onRange(first, last)` is told
 * what is in sight. `role` is `listbox` or `tree`. `onOpen` is Enter or a click, `onKey` gets all other keys.
 */
export function List({ total, height, role, label, cursor, onCursor, onOpen, onKey, onRange, row, name }) {
  const box = useRef();
  const [view, setView] = useState({ top: 0, height: 600 });
  const first = Math.max(0, Math.floor(view.top / height) - BESIDE);
  const last = Math.min(total, Math.ceil((view.top + view.height) / height) + BESIDE);
  const range = useStable(onRange ?? (() => {}));

  useLayoutEffect(() => {
    const look = () => setView({ top: box.current.scrollTop, height: box.current.clientHeight });
    const observer = new ResizeObserver(look);
    observer.observe(box.current);
    return () => observer.disconnect();
  }, []);
  useEffect(() => {
    if (wanted === name) enter(name);
  }, []);
  useEffect(() => range(first, last), [first, last, total]);
  useEffect(() => {
    // The cursor stays in sight.
    if (cursor < 0 || cursor >= total) return;
    const at = cursor * height;
    const { scrollTop, clientHeight } = box.current;
    if (at < scrollTop) box.current.scrollTop = at;
    else if (at + height > scrollTop + clientHeight) box.current.scrollTop = at + height - clientHeight;
  }, [cursor]);

  const step = Math.max(1, Math.floor(view.height / height) - 1);
  const moves = { ArrowDown: 1, ArrowUp: -1, PageDown: step, PageUp: -step, Home: -total, End: total };
  const keyed = (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key in moves) {
      event.preventDefault();
      const from = cursor < 0 ? (moves[event.key] > 0 ? -1 : 0) : cursor;
      const to = event.key === "End" ? total - 1 : from + moves[event.key];
      onCursor(Math.max(0, Math.min(total - 1, to)));
    } else if (event.key === "Enter") {
      event.preventDefault();
      if (cursor >= 0) onOpen(cursor);
    } else onKey?.(event, cursor);
  };

  const rows = [];
  for (let index = first; index < last; index++) {
    const found = row(index);
    const style = { transform: `translateY(${index * height}px)`, height: `${height}px` };
    if (found === null) {
      rows.push(html`<div key=${index} class="row waiting" style=${style} aria-hidden="true"><span /></div>`);
      continue;
    }
    rows.push(
      html`<div
        key=${index}
        id=${`${name}-${index}`}
        class="row ${index === cursor ? "cursor" : ""} ${found.class ?? ""}"
        style=${style}
        role=${role === "tree" ? "treeitem" : "option"}
        aria-setsize=${total}
        aria-posinset=${index + 1}
        aria-selected=${Boolean(found.selected)}
        ...${found.attributes}
        onClick=${() => {
          onCursor(index);
          onOpen(index);
        }}
      >
        ${found.content}
      </div>`,
    );
  }
  const seen = cursor >= first && cursor < last && row(cursor) !== null;
  return html`<div
    ref=${box}
    class="list"
    data-list=${name}
    role=${role}
    aria-label=${label}
    aria-activedescendant=${seen ? `${name}-${cursor}` : undefined}
    tabindex="0"
    onScroll=${(event) => setView({ top: event.target.scrollTop, height: event.target.clientHeight })}
    onKeyDown=${keyed}
  >
    <div class="all" role="presentation" style=${{ height: `${total * height}px` }}>${rows}</div>
  </div>`;
}

let wanted = null;

/** Put the keyboard into a list, when it is there. */
export function enter(name) {
  const list = document.querySelector(`[data-list="${name}"]`);
  wanted = list ? null : name;
  list?.focus();
}

/** Put the keyboard into the list of this name that comes next. */
export function later(name) {
  wanted = name;
}
