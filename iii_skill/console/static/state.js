// The page of state: scopes, the keys of one as a tree, the value of one.
import { html, useEffect, useMemo, useRef, useState, useStable, useValue, throttled } from "./lib.js";
import { about, ask } from "./api.js";
import { arrived, onChanges, status } from "./feed.js";
import { List, enter, later } from "./list.js";
import { count, Empty, Icon, Name, plain, Search, Trouble } from "./ui.js";
import { DeleteKey, DeleteUnder, NewKey, OpenKey } from "./dialogs.js";
import { address, go } from "./route.js";
import { drafted, KeyPage } from "./value.js";

const PAGE = 200;
const openedOf = new Map();

export function StatePage({ scope, name, view }) {
  const known = useValue(about);
  const [dialog, setDialog] = useState(null);
  const offers = known?.offers;
  if (offers && !offers.has("state::get"))
    return html`<${Empty} icon="state" title="No state here">
      <p>${known.label} serves no <code>state::*</code>.</p>
      <p>Start it without <code>--no-state</code>, or bring state with <code>iii-skill attach</code>.</p>
    <//>`;
  const listed = !offers || offers.has("state::list_keys");
  const close = () => setDialog(null);
  const shown = name !== undefined ? "at-key" : scope !== undefined ? "at-scope" : "at-scopes";
  return html`<div class="panes ${shown}">
    <${Scopes} scope=${scope} onNew=${() => setDialog({ kind: "new" })} />
    ${scope !== undefined &&
    (listed
      ? html`<${Keys} key=${scope} scope=${scope} name=${name} onDialog=${setDialog} />`
      : html`<section class="pane keys">
          <${Empty} icon="key" title="Values without their keys">
            <p>This engine lists the values of a scope and not their keys.</p>
            <p>A key that you know can be opened. <code>iii-skill attach</code> brings a state worker that lists keys.</p>
            <button onClick=${() => setDialog({ kind: "open" })}>Open a key</button>
          <//>
        </section>`)}
    ${name !== undefined
      ? html`<${KeyPage} key=${`${scope}\n${name}`} scope=${scope} name=${name} view=${view} onDelete=${() => setDialog({ kind: "delete", name })} />`
      : html`<section class="pane value hollow">
          <${Empty} icon="key" title=${scope === undefined ? "Choose a scope" : "Choose a key"}>
            <p>Arrow keys move, <kbd>Enter</kbd> opens, <kbd>/</kbd> filters, <kbd>n</kbd> makes a key.</p>
          <//>
        </section>`}
    ${dialog?.kind === "new" && html`<${NewKey} scope=${scope ?? ""} prefix=${dialog.prefix ?? ""} onClose=${close} />`}
    ${dialog?.kind === "open" && html`<${OpenKey} scope=${scope} onClose=${close} />`}
    ${dialog?.kind === "delete" && html`<${DeleteKey} scope=${scope} name=${dialog.name} onClose=${close} />`}
    ${dialog?.kind === "under" &&
    html`<${DeleteUnder} scope=${scope} prefix=${dialog.prefix} count=${dialog.count} onClose=${close} />`}
  </div>`;
}

function Scopes({ scope, onNew }) {
  const [scopes, setScopes] = useState(null);
  const [counts, setCounts] = useState({});
  const [text, setText] = useState("");
  const [problem, setProblem] = useState(null);
  const [at, setAt] = useState(scope);
  const state = useValue(status);
  const sight = useRef([0, 0]);
  const shown = useMemo(
    () => (scopes ?? []).filter((one) => one.toLowerCase().includes(text.toLowerCase())),
    [scopes, text],
  );
  const load = useStable(async () => {
    try {
      const { groups } = await ask("scopes");
      setScopes(groups);
      setProblem(null);
    } catch (error) {
      setProblem(error);
    }
  });
  const tally = useStable(async () => {
    const names = shown.slice(...sight.current).slice(0, 50);
    if (!names.length) return;
    try {
      const told = await ask("counts", { scopes: names });
      setCounts((before) => ({ ...before, ...told.counts }));
    } catch {
      // An engine that lists no keys has no counts.
    }
  });
  useEffect(() => {
    const later = throttled(async () => {
      await load();
      tally();
    }, () => 1500);
    let again = 0;
    later();
    const leave = onChanges((changes) => {
      if (changes && changes.every((change) => change.type === "updated")) return;
      later();
      // The host counts again after some seconds only.
      clearTimeout(again);
      again = setTimeout(tally, 6500);
    });
    return () => {
      leave();
      later.cancel();
      clearTimeout(again);
    };
  }, []);
  useEffect(() => {
    tally();
  }, [shown]);
  useEffect(() => setAt(scope), [scope]);
  const cursor = shown.indexOf(at);
  const setCursor = (index) => setAt(shown[index]);
  useEffect(() => {
    if (scope === undefined && shown.length && !matchMedia("(max-width: 900px)").matches) enter("scopes");
  }, [scopes !== null]);

  return html`<section class="pane scopes" aria-label="Scopes">
    <header>
      <h1>Scopes ${scopes && html`<small>${count(scopes.length)}</small>`}</h1>
      <button class="quiet" title="New key (n)" data-new onClick=${onNew}><${Icon} name="plus" /><span>New key</span></button>
    </header>
    ${(scopes?.length ?? 0) > 8 &&
    html`<div class="tools"><${Search} label="Filter scopes" value=${text} onInput=${setText} onDown=${() => enter("scopes")} /></div>`}
    ${problem && html`<${Trouble} problem=${problem} retry=${load} />`}
    ${!scopes && !problem && html`<div class="loading" />`}
    ${scopes && !scopes.length &&
    html`<${Empty} icon="state" title="No state yet">
      <p>Workers write it with <code>state::set</code>, and it appears here as they do.</p>
      <button class="main" onClick=${onNew}>New key</button>
    <//>`}
    ${shown.length > 0 &&
    html`<${List}
      name="scopes"
      role="listbox"
      label="Scopes"
      total=${shown.length}
      height=${34}
      cursor=${cursor}
      onCursor=${setCursor}
      onOpen=${(index) => {
        go("state", shown[index]);
        if (shown[index] === scope) enter("keys");
        else later("keys");
      }}
      onKey=${(event) => event.key === "ArrowRight" && enter("keys")}
      onRange=${(first, last) => {
        sight.current = [first, last];
        tally();
      }}
      row=${(index) => ({
        selected: shown[index] === scope,
        content: html`<span class="name"><${Name} text=${shown[index]} /></span>
          <span class="count">${counts[shown[index]] == null ? "" : count(counts[shown[index]])}</span>`,
      })}
    />`}
    ${scopes?.length > 0 && !shown.length && html`<p class="nothing">No scope holds “${text}”.</p>`}
    ${state === "unavailable" && html`<p class="foot">This engine tells no changes: reload to see new ones.</p>`}
  </section>`;
}

function useTree(scope, text) {
  if (!openedOf.has(scope)) openedOf.set(scope, new Set());
  const opened = openedOf.get(scope);
  const held = useRef({ rows: [], reading: "", sight: [0, 60], busy: false, again: false, took: 0, wanted: 0 });
  const [tree, setTree] = useState(null);
  const [problem, setProblem] = useState(null);

  const load = useStable(async (fresh = false) => {
    const now = held.current;
    if (now.busy) {
      now.again = now.again || (fresh ? "fresh" : "page");
      return;
    }
    now.busy = true;
    const wanted = now.wanted;
    let [offset] = now.sight;
    if (!fresh && now.loaded === wanted) while (now.rows[offset] && offset < now.sight[1]) offset++;
    try {
      const answer = await ask("tree", { scope, opened: [...opened], text, offset, limit: PAGE, fresh });
      if (answer.reading !== now.reading || now.loaded !== wanted) now.rows = [];
      now.reading = answer.reading;
      now.loaded = wanted;
      now.took = answer.took_ms;
      answer.rows.forEach((row, at) => (now.rows[offset + at] = row));
      setTree({ total: answer.total, keys: answer.keys, rows: now.rows, loaded: wanted });
      setProblem(null);
      if (wanted !== now.wanted) now.again = now.again || "page";
    } catch (error) {
      setProblem(error);
    }
    now.busy = false;
    if (now.again) {
      const kind = now.again;
      now.again = false;
      load(kind === "fresh");
    } else needed();
  });
  const needed = useStable(() => {
    const now = held.current;
    const [first, last] = now.sight;
    const end = Math.min(last, tree?.total ?? last);
    for (let at = first; at < end; at++) if (!now.rows[at]) return load();
    return undefined;
  });
  useEffect(() => {
    held.current.wanted++;
    load();
  }, [text]);
  return {
    ...tree,
    problem,
    opened,
    load,
    took: () => held.current.took,
    sight(first, last) {
      held.current.sight = [first, last];
      if (tree) needed();
    },
    toggle(path, open) {
      if (open) opened.add(path);
      else opened.delete(path);
      held.current.wanted++;
      load();
    },
  };
}

function Keys({ scope, name, onDialog }) {
  const [text, setText] = useState("");
  const [typed, setTyped] = useState("");
  const [cursor, setCursor] = useState(-1);
  const tree = useTree(scope, text);
  const kept = useRef(null);
  useValue(drafted);
  useValue(arrived);
  useEffect(() => {
    const wait = setTimeout(() => setText(typed), 120);
    return () => clearTimeout(wait);
  }, [typed]);
  useEffect(() => {
    // Reading a large scope again costs its host something: the larger it is, the rarer.
    const later = throttled(() => tree.load(true), () => Math.max(400, 20 * tree.took()));
    const leave = onChanges((changes) => {
      if (!changes || changes.some((one) => one.left || (one.scope === scope && one.type !== "updated"))) later();
    });
    return () => {
      leave();
      later.cancel();
    };
  }, [scope]);
  const rows = tree.rows ?? [];
  const at = cursor >= 0 ? rows[cursor] : undefined;
  useEffect(() => {
    // After a reading the cursor stays on its row, wherever that is now.
    if (kept.current !== null && at?.path !== kept.current) {
      const found = rows.findIndex((row) => row?.path === kept.current);
      if (found >= 0) setCursor(found);
    }
  }, [tree.rows]);
  const move = (index) => {
    kept.current = rows[index]?.path ?? null;
    setCursor(index);
  };
  const open = (index) => {
    const row = rows[index];
    if (!row) return;
    if (row.kind === "branch") tree.toggle(row.path, !row.opened);
    else go("state", scope, row.path);
  };
  const keyed = (event, index) => {
    const row = rows[index];
    if (event.key === "ArrowLeft") {
      event.preventDefault();
      if (row?.kind === "branch" && row.opened) tree.toggle(row.path, false);
      else if (row && row.depth > 0) {
        let up = index;
        while (up > 0 && rows[up] && rows[up].depth >= row.depth) up--;
        move(up);
      } else enter("scopes");
    } else if (event.key === "ArrowRight" && row) {
      event.preventDefault();
      if (row.kind === "branch" && !row.opened) tree.toggle(row.path, true);
      else if (row.kind === "branch") move(Math.min(index + 1, tree.total - 1));
      else go("state", scope, row.path);
    } else if (event.key === "Delete" && row) remove(row);
  };
  const remove = (row) => {
    if (row.kind === "branch") onDialog({ kind: "under", prefix: row.path, count: row.count });
    else onDialog({ kind: "delete", name: row.path });
  };
  const aimed = at ?? (name === undefined ? undefined : { kind: "key", path: name, name });
  return html`<section class="pane keys" aria-label="Keys">
    <header>
      <a class="up" href=${address("state")} aria-label="All scopes"><${Icon} name="back" /></a>
      <h1><${Name} text=${scope} /> ${tree.keys !== undefined && html`<small>${count(tree.keys)} ${tree.keys === 1 ? "key" : "keys"}</small>`}</h1>
      <button class="quiet" title="New key (n)" data-new onClick=${() => onDialog({ kind: "new", prefix: at?.kind === "branch" ? at.path : "" })}>
        <${Icon} name="plus" /><span class="hidden">New key in this scope</span>
      </button>
      <button
        class="quiet"
        title=${aimed?.kind === "branch" ? "Delete what is under the branch (Delete)" : "Delete the key (Delete)"}
        disabled=${!aimed && !tree.keys}
        onClick=${() => (aimed ? remove(aimed) : onDialog({ kind: "under", prefix: "", count: tree.keys }))}
      >
        <${Icon} name="trash" />
        <span class="hidden">${aimed ? `Delete ${plain(aimed.path)}` : "Delete all keys"}</span>
      </button>
    </header>
    <div class="tools">
      <${Search} label="Filter keys" value=${typed} onInput=${setTyped} onDown=${() => {
        if (cursor < 0) move(0);
        enter("keys");
      }} />
      ${text && tree.total !== undefined && html`<span class="found" role="status">${count(tree.total)} found</span>`}
    </div>
    ${tree.problem && html`<${Trouble} problem=${tree.problem} retry=${() => tree.load(true)} />`}
    ${tree.total === undefined && !tree.problem && html`<div class="loading" />`}
    ${tree.total > 0 &&
    html`<${List}
      name="keys"
      role="tree"
      label=${`Keys of ${plain(scope)}`}
      total=${tree.total}
      height=${30}
      cursor=${Math.min(cursor, tree.total - 1)}
      onCursor=${move}
      onOpen=${open}
      onKey=${keyed}
      onRange=${tree.sight}
      row=${(index) => {
        const row = rows[index];
        if (!row) return null;
        const branch = row.kind === "branch";
        return {
          selected: !branch && row.path === name,
          class: branch ? "branch" : "",
          attributes: {
            "aria-level": row.depth + 1,
            ...(branch ? { "aria-expanded": row.opened } : {}),
            title: plain(row.path),
          },
          content: html`<span class="indent" style=${{ width: `${row.depth * 16}px` }} />
            ${branch ? html`<span class="turn ${row.opened ? "open" : ""}"><${Icon} name="chevron" /></span>` : html`<span class="leaf" />`}
            <span class="name"><${Found} text=${row.name} part=${text} /></span>
            ${branch && html`<span class="count">${count(row.count)}</span>`}
            ${!branch && drafted.now.has(`${scope}\n${row.path}`) && html`<span class="dot" title="An edit is open" />`}`,
        };
      }}
    />`}
    ${tree.total === 0 &&
    (text
      ? html`<p class="nothing">No key holds “${text}”.</p>`
      : html`<${Empty} icon="key" title="No keys"><p>All keys of this scope are deleted.</p><//>`)}
  </section>`;
}

/** A name with the part that was looked for. */
function Found({ text, part }) {
  const shown = plain(text);
  if (text === "") return html`<i class="faint">empty</i>`;
  const at = part ? shown.toLowerCase().indexOf(part.toLowerCase()) : -1;
  if (at < 0) return html`<bdi>${shown}</bdi>`;
  const end = at + part.length;
  return html`<bdi>${shown.slice(0, at)}<mark>${shown.slice(at, end)}</mark>${shown.slice(end)}</bdi>`;
}
