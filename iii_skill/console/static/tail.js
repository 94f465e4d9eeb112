// The live tail: changes as they happen, newest first; what may have been missed is a row of its own.
import { html, useEffect, useMemo, useState, useValue } from "./lib.js";
import { arrived, rows, status } from "./feed.js";
import { List, enter } from "./list.js";
import { go } from "./route.js";
import { bytes, clock, count, Empty, Icon, Name, plain, Search } from "./ui.js";

const narrow = matchMedia("(max-width: 900px)");

export function TailPage() {
  const newest = useValue(arrived);
  const state = useValue(status);
  const [held, setHeld] = useState(null);
  const [text, setText] = useState("");
  const [cursor, setCursor] = useState(-1);
  const last = held ?? newest;
  const shown = useMemo(() => {
    const wanted = text.toLowerCase();
    return rows.filter((row) => row.number <= last && (row.gap || row.left || matches(row, wanted))).reverse();
  }, [last, text]);
  const hold = () => setHeld(held === null ? newest : null);
  useEffect(() => {
    const keyed = (event) => {
      if (event.key !== " " || event.defaultPrevented || event.target.closest("input, button, dialog, [role=listbox]")) return;
      event.preventDefault();
      hold();
    };
    addEventListener("keydown", keyed);
    return () => removeEventListener("keydown", keyed);
  }, [held, newest]);
  const waiting = held === null ? 0 : newest - held;
  return html`<section class="pane whole" aria-label="Live tail">
    <header>
      <h1>Live tail ${shown.length > 0 && html`<small>${count(shown.length)}</small>`}</h1>
      <div class="tools">
        <${Search} label="Scope, key or value" value=${text} onInput=${setText} onDown=${() => enter("tail")} />
        <button onClick=${hold} aria-pressed=${held !== null} title="Space">
          <${Icon} name=${held === null ? "pause" : "play"} />${held === null ? "Hold" : "Go on"}
        </button>
      </div>
    </header>
    ${held !== null &&
    html`<div class="bar" role="status"><span>Held. ${waiting === 0 ? "Nothing new yet." : `${count(waiting)} new ${waiting === 1 ? "change waits" : "changes wait"}.`}</span></div>`}
    ${state === "unavailable"
      ? html`<${Empty} icon="tail" title="This engine tells no changes">
          <p>The tail needs <code>iii-skill::state::changes</code>, which <code>iii-skill serve</code> offers.</p>
        <//>`
      : shown.length === 0
        ? html`<${Empty} icon="tail" title=${text && rows.length ? "Nothing like that yet" : "Nothing has changed yet"}>
            <p>Changes of state appear here as they happen, from when this page was opened.</p>
          <//>`
        : html`<div class="head" aria-hidden="true"><span>Time</span><span>Change</span><span>Scope</span><span>Key</span><span>Value</span><span class="n">Size</span></div>
            <${List}
              name="tail"
              role="listbox"
              label="Changes, newest first"
              total=${shown.length}
              height=${narrow.matches ? 54 : 32}
              cursor=${cursor}
              onCursor=${setCursor}
              onOpen=${(index) => !shown[index].gap && !shown[index].left && go("state", shown[index].scope, shown[index].key)}
              onKey=${(event) => {
                if (event.key === " ") {
                  event.preventDefault();
                  hold();
                }
              }}
              row=${(index) => line(shown[index])}
            />`}
  </section>`;
}

function matches(row, wanted) {
  return !wanted || [row.scope, row.key, row.value, row.type].some((one) => one.toLowerCase().includes(wanted));
}

function line(row) {
  if (row.gap)
    return {
      class: "change gone",
      content: html`<span class="time">${clock(row.at)}</span>
        <span class="said"><${Icon} name="warn" />Changes before this are not known: the host was started again, or there were too many.</span>`,
    };
  if (row.left)
    return {
      class: "change gone",
      content: html`<span class="time">${clock(row.at)}</span>
        <span class="said">${count(row.left)} ${row.left === 1 ? "change" : "changes"} left out here, too fast to read. State has the values.</span>`,
    };
  return {
    class: `change ${row.type}`,
    content: html`<span class="time">${clock(row.at)}</span>
      <span class="kind">${row.type}</span>
      <span class="name"><${Name} text=${row.scope} /></span>
      <span class="name key"><${Name} text=${row.key} /></span>
      <span class="preview">${row.type === "deleted" ? html`<s>${plain(row.old)}</s>` : plain(row.value)}</span>
      <span class="count">${row.type === "deleted" ? "" : bytes(row.size)}</span>`,
  };
}
