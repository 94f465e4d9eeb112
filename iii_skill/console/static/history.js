// What a key held before: its versions, what is different from each to now, and the way back.
import { html, useEffect, useRef, useState, useStable } from "./lib.js";
import { ask } from "./api.js";
import { coloured } from "./editor.js";
import { List, later } from "./list.js";
import { ago, bytes, count, Empty, moment, note, Trouble } from "./ui.js";

const ROW = 32;
const MOST_ROWS = 7;

export function History({ scope, name, changed, editing, canSave, onDelete }) {
  const [list, setList] = useState(null);
  const [problem, setProblem] = useState(null);
  const [cursor, setCursor] = useState(0);
  const [chosen, setChosen] = useState(null);
  const latest = useRef();
  latest.current = { list, chosen };

  const load = useStable(async () => {
    try {
      const answer = await ask("versions", { scope, key: name });
      // What was looked at meanwhile counts: older versions stay, and the cursor stays on its own one.
      const { list: before, chosen: looked } = latest.current;
      const known = before?.versions.findIndex((one) => one.revision === answer.versions.at(-1)?.revision) ?? -1;
      const versions = known < 0 ? answer.versions : [...answer.versions, ...before.versions.slice(known + 1)];
      setList({ versions, next: known < 0 ? answer.next : before.next });
      setProblem(null);
      const at = versions.findIndex((one) => one.revision === looked);
      setCursor(Math.max(0, at));
      if (at < 0) setChosen(versions[0]?.revision ?? null);
    } catch (error) {
      setProblem(error);
    }
  });
  const older = useStable(async () => {
    const { next } = list;
    try {
      const more = await ask("versions", { scope, key: name, before: next });
      // Asked twice, or read anew meanwhile: it is there already, or comes elsewhere.
      setList((before) => (before.next === next ? { versions: [...before.versions, ...more.versions], next: more.next } : before));
    } catch (error) {
      note(error.message, { kind: "bad" });
    }
  });
  useEffect(() => {
    later("versions");
  }, []);
  useEffect(() => {
    load();
  }, [changed]);

  if (problem?.code === "HISTORY_ERROR" || problem?.code === "function_not_found") return html`<${Off} problem=${problem} />`;
  if (problem) return html`<${Trouble} problem=${problem} retry=${load} />`;
  if (!list) return html`<div class="loading" />`;
  const { versions, next } = list;
  if (!versions.length)
    return html`<${Empty} icon="history" title="No versions">
      <p>Versions are kept from the first change after the store was told to keep them.</p>
    <//>`;
  const total = versions.length + (next === null ? 0 : 1);
  const choose = (index) => {
    setCursor(index);
    if (index < versions.length) setChosen(versions[index].revision);
  };
  return html`<div class="history">
    <div class="versions" style=${{ height: `${Math.min(total, MOST_ROWS) * ROW + 1}px` }}>
      <${List}
        name="versions"
        role="listbox"
        label="Versions, newest first"
        total=${total}
        height=${ROW}
        cursor=${cursor}
        onCursor=${choose}
        onOpen=${(index) => (index < versions.length ? choose(index) : older())}
        onRange=${() => {}}
        row=${(index) => row(versions[index], index === 0, chosen)}
      />
    </div>
    ${chosen !== null &&
    html`<${Compared}
      key=${chosen}
      scope=${scope}
      name=${name}
      version=${versions.find((one) => one.revision === chosen)}
      changed=${changed}
      editing=${editing}
      canSave=${canSave}
      onDelete=${onDelete}
    />`}
  </div>`;
}

function row(version, newest, chosen) {
  if (!version) return { class: "version more", content: html`<span class="name">Show older versions</span>` };
  return {
    selected: version.revision === chosen,
    class: `version ${version.deleted ? "deleted" : ""}`,
    content: html`<span class="time">${moment(version.at_ms)}</span>
      <span class="name">${newest ? "newest" : ago(version.at_ms)}</span>
      <span class="count size">${version.deleted ? "deleted" : bytes(version.size)}</span>
      <span class="count">revision ${revision(version)}</span>`,
  };
}

/** A version, line by line against what is stored now. */
function Compared({ scope, name, version, changed, editing, canSave, onDelete }) {
  const [found, setFound] = useState(null);
  const [problem, setProblem] = useState(null);
  const [whole, setWhole] = useState(false);
  const [saving, setSaving] = useState(false);
  const asked = useRef(0);
  const load = useStable(async () => {
    const number = ++asked.current;
    try {
      const answer = await ask("compare", { scope, key: name, revision: version.revision, whole });
      if (number !== asked.current) return;
      setFound(answer);
      setProblem(null);
    } catch (error) {
      if (number === asked.current) setProblem(error);
    }
  });
  useEffect(() => {
    load();
    return () => asked.current++;
  }, [changed, whole]);
  const revert = async () => {
    setSaving(true);
    try {
      const { saved } = await ask("revert", { scope, key: name, revision: version.revision, seen: found.seen });
      note(saved ? `Revision ${revision(version)} is stored again` : "It was changed meanwhile: nothing was stored. Look again.");
      load();
    } catch (error) {
      note(error.message, { kind: "bad" });
    }
    setSaving(false);
  };
  if (problem) return html`<${Trouble} problem=${problem} retry=${load} />`;
  if (!found) return html`<div class="loading" />`;
  const { difference, same, deleted, absent } = found;
  const differs = difference.lines.some((line) => line.kind !== "=" && line.kind !== "gap");
  const said = same
    ? deleted
      ? "The key was not there, as now."
      : "This is what is stored now."
    : !difference.compared
      ? "Too long to be compared; it began like this:"
      : !differs
        ? "Only the layout is another one now."
        : deleted
          ? "The key was not there. Now:"
          : absent
            ? "The key is not there now. It held:"
            : null;
  return html`<section class="compared" aria-label="The version and now">
    <div class="comparedhead">
      <p class="legend" role="status">
        ${said ?? html`<span class="gone">− ${moment(version.at_ms)}</span> <span class="new">+ now</span>`}
      </p>
      <div class="acts">
        ${difference.compared &&
        !same &&
        differs &&
        html`<button class="quiet" aria-pressed=${whole} onClick=${() => setWhole(!whole)}>All lines</button>`}
        ${deleted
          ? !same && html`<button disabled=${editing} onClick=${onDelete}>Delete it again</button>`
          : html`<button
              class="main"
              disabled=${same || editing || saving || !canSave}
              title=${editing ? "Save or cancel the edit first" : "Store this version again, if nobody changes the key meanwhile"}
              onClick=${revert}
            >
              Revert to this
            </button>`}
      </div>
    </div>
    ${editing && !same && html`<p class="nothing">An edit of the key is open: save or cancel it before you go back.</p>`}
    <pre class="difference" tabindex="0" aria-label="Lines of the version and of now">${difference.lines.map(line)}</pre>
  </section>`;
}

/** The number of a version, digits that may be more than a number of JavaScript holds. */
const revision = (version) => count(BigInt(version.revision));

const KINDS = { "+": "new", "-": "gone", "=": "" };
const SPOKEN = { "+": "now ", "-": "then " };

function line({ kind, text, gap }) {
  if (kind === "gap") return html`<div class="between">${count(gap)} equal ${gap === 1 ? "line" : "lines"}</div>`;
  return html`<div class=${KINDS[kind]}>
    <span class="sign" aria-hidden="true">${kind === "=" ? " " : kind.replace("-", "−")}</span>${SPOKEN[kind] && html`<span class="hidden">${SPOKEN[kind]}</span>`}<span>${text.length < 2000 ? coloured(text) : text}</span>
  </div>`;
}

function Off({ problem }) {
  if (problem.code === "function_not_found")
    return html`<${Empty} icon="history" title="No versions are kept">
      <p>This engine keeps none; <code>iii-skill serve</code> does, where its adapter has the setting <code>history</code>.</p>
    <//>`;
  // The host says in a sentence what to do; its words in backticks are code.
  const words = problem.message.replace(/^Failed to read history: /, "").split("`");
  return html`<${Empty} icon="history" title="No versions are kept">
    <p>${words.map((word, at) => (at % 2 ? html`<code>${word}</code>` : word))}</p>
    <p>In <code>iii-config.yaml</code> it stands in the adapter’s <code>config</code>:</p>
    <p><code class="block">config: {history: {keep: 100, days: 7}}</code></p>
  <//>`;
}
