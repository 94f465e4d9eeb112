// Somebody else saved first: the three texts side by side, and what can be made of them.
import { html, useEffect, useRef, useState } from "./lib.js";
import { coloured } from "./editor.js";
import { Icon } from "./ui.js";

const MOST = 2000;

export function Conflict({ conflict, onSave, onTheirs, onEdit }) {
  const { now, merge, mine, opened } = conflict;
  const merged = merge?.merged ?? null;
  const [tab, setTab] = useState("theirs");
  const first = useRef();
  const keep = () => onSave({ base: now.base, text: mine, laid_out: true, opened: now.text });
  const saveMerged = () => onSave({ base: now.base, text: merged, laid_out: true, opened: now.text });
  const canKeep = !now.too_large;
  useEffect(() => first.current?.focus(), [conflict]);
  useEffect(() => {
    const keyed = (event) => {
      if (document.querySelector("dialog[open]")) return;
      if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
        event.preventDefault();
        if (merged !== null) saveMerged();
      } else if (event.key === "Escape") {
        event.preventDefault();
        event.stopPropagation();
        onEdit(now, mine);
      }
    };
    addEventListener("keydown", keyed, true);
    return () => removeEventListener("keydown", keyed, true);
  }, [conflict]);
  const columns = [
    { id: "base", title: "When you opened it", text: opened, lines: [] },
    { id: "theirs", title: now.exists ? "Stored now" : "Deleted now", text: now.text, lines: merge?.theirs_lines ?? [] },
    { id: "mine", title: "Yours", text: mine, lines: merge?.mine_lines ?? [] },
  ];
  if (merged !== null) columns.push({ id: "merged", title: "Merged", text: merged, lines: [] });
  return html`<div class="conflict">
    <div class="verdict" role="alert">
      <${Icon} name=${merged !== null ? "check" : "warn"} />
      <div>
        <h2>Somebody else saved first</h2>
        <p>
          ${merged !== null
            ? "You changed other members than they did: merged, nothing of either is lost."
            : merge?.overlap
              ? html`Both of you changed <code>${merge.overlap}</code>. You decide; nothing is saved yet.`
              : now.exists
                ? "There was no value when you began. You decide; nothing is saved yet."
                : "They deleted the key. You decide; nothing is saved yet."}
        </p>
      </div>
    </div>
    <div class="choices">
      ${merged !== null &&
      html`<button ref=${first} class="main" title="Ctrl-Enter" onClick=${saveMerged}>Save merged</button>
        <button onClick=${() => onEdit(now, merged)}>Edit merged</button>`}
      <button ref=${merged === null ? first : undefined} title="Esc" disabled=${!canKeep} onClick=${() => onEdit(now, mine)}>Edit mine</button>
      <button disabled=${!canKeep} onClick=${keep}>Save mine over it</button>
      <button onClick=${() => onTheirs(now)}>Take theirs</button>
    </div>
    <div class="tabs narrow" role="group" aria-label="Which text is shown">
      ${columns.map(
        ({ id, title }) =>
          html`<button aria-pressed=${tab === id} onClick=${() => setTab(id)}>${title}</button>`,
      )}
    </div>
    <div class="columns">
      ${columns.map((column) => html`<${Column} key=${column.id} ...${column} chosen=${tab === column.id} />`)}
    </div>
  </div>`;
}

function Column({ id, title, text, lines, chosen }) {
  const changed = new Set(lines);
  const all = text.split("\n");
  const shown = all.slice(0, MOST);
  return html`<section class="column ${id} ${chosen ? "chosen" : ""}" aria-label=${title}>
    <h3>${title}</h3>
    <pre tabindex="0" aria-label=${title}>${shown.map(
      (line, at) => html`<div class=${changed.has(at) ? "changed" : ""}>${line.length < 4000 ? coloured(line) : line}${line === "" ? " " : ""}</div>`,
    )}${all.length > MOST && html`<div class="faint">and ${all.length - MOST} more lines</div>`}</pre>
  </section>`;
}
