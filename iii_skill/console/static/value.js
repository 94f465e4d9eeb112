// One key: its value as a text. What is saved is compared with the text that was opened, by the host.
import { html, useEffect, useRef, useState, useStable, useValue, throttled, Value } from "./lib.js";
import { about, ask } from "./api.js";
import { Conflict } from "./conflict.js";
import { Editor, goTo } from "./editor.js";
import { Ends } from "./ends.js";
import { onChanges } from "./feed.js";
import { History } from "./history.js";
import { address } from "./route.js";
import { ago, bytes, Confirm, Empty, Icon, Name, note, plain, Trouble } from "./ui.js";

const CHECKED = 500_000;

/** Edits that are open, by scope and key: they outlive a walk through other pages. */
export const drafted = new Value(new Map());

function keep(scope, name, draft) {
  drafted.set(new Map(drafted.now).set(`${scope}\n${name}`, draft));
}

export function dropDraft(scope, name) {
  const left = new Map(drafted.now);
  left.delete(`${scope}\n${name}`);
  drafted.set(left);
}

addEventListener("beforeunload", (event) => {
  if ([...drafted.now.values()].some((draft) => draft.text !== draft.opened)) event.preventDefault();
});

export function KeyPage({ scope, name, view, onDelete }) {
  const [value, setValue] = useState(null);
  const [problem, setProblem] = useState(null);
  const [incoming, setIncoming] = useState(null);
  const [conflict, setConflict] = useState(null);
  const [wrong, setWrong] = useState(null);
  const [place, setPlace] = useState({ line: 1, column: 1 });
  const [changed, setChanged] = useState(null);
  const [leaving, setLeaving] = useState(false);
  const [saving, setSaving] = useState(false);
  const drafts = useValue(drafted);
  const known = useValue(about);
  const draft = drafts.get(`${scope}\n${name}`);
  const area = useRef();
  const past = view === "history";
  const canSave = !known || known.offers.has("state::compare-and-set");

  const reading = useRef({ busy: false, again: false, saves: 0 });
  const load = useStable(async () => {
    // One at a time, and what was asked for before a save does not count after it.
    reading.current.again = true;
    if (reading.current.busy) return;
    reading.current.busy = true;
    while (reading.current.again) {
      reading.current.again = false;
      const { saves } = reading.current;
      try {
        const now = await ask("value", { scope, key: name });
        if (saves === reading.current.saves) show(now);
        setProblem(null);
      } catch (error) {
        setProblem(error);
      }
    }
    reading.current.busy = false;
  });
  const show = (now) => {
    const edit = drafted.now.get(`${scope}\n${name}`);
    if (!edit) setValue(now);
    else {
      // The text under the cursor stays as it is; a bar tells of the change.
      setValue((before) => before ?? now);
      setIncoming(now.base === edit.base && !now.too_large ? null : now);
    }
  };
  useEffect(() => {
    load();
    const later = throttled(load, () => 200);
    const leave = onChanges((changes) => {
      const own = changes?.filter((one) => one.scope === scope && one.key === name);
      if (own?.length) setChanged(own[own.length - 1].at);
      if (!changes || own.length || changes.some((one) => one.left)) later();
    });
    return () => {
      leave();
      later.cancel();
    };
  }, []);
  useEffect(() => {
    if (!draft || draft.text.length > CHECKED) return undefined;
    const stop = new AbortController();
    const wait = setTimeout(async () => {
      try {
        await ask("check", { text: draft.text }, stop.signal);
        setWrong(null);
      } catch (error) {
        if (error.code === "INVALID_JSON") setWrong(error);
      }
    }, 250);
    return () => {
      clearTimeout(wait);
      stop.abort();
    };
  }, [draft?.text]);

  // What is in sight stays in sight.
  const focus = () => requestAnimationFrame(() => area.current?.focus({ preventScroll: true }));
  const edit = useStable(() => {
    if (!value || value.too_large || draft || !canSave) return;
    const { base, text, laid_out } = value;
    keep(scope, name, { base: value.exists ? base : null, text, opened: text, laid_out });
    focus();
  });
  const type = (text) => keep(scope, name, { ...drafted.now.get(`${scope}\n${name}`), text });
  const close = () => {
    dropDraft(scope, name);
    setWrong(null);
    setIncoming(null);
    setConflict(null);
    setLeaving(false);
    load();
    focus();
  };
  const leave = () => (draft.text === draft.opened ? close() : setLeaving(true));
  const save = useStable(async (given) => {
    const fields = given ?? drafted.now.get(`${scope}\n${name}`);
    if (!fields || saving) return;
    if (!given && fields.text === fields.opened) {
      note("Nothing was changed.");
      close();
      return;
    }
    setSaving(true);
    try {
      const { base, text, laid_out } = fields;
      const answer = await ask("save", { scope, key: name, base, text, laid_out });
      if (answer.saved) {
        reading.current.saves++;
        setValue(answer.now);
        dropDraft(scope, name);
        load();
        setWrong(null);
        setIncoming(null);
        setConflict(null);
        note("Saved");
        focus();
      } else setConflict({ ...answer, opened: fields.opened, laid_out });
    } catch (error) {
      if (error.code === "INVALID_JSON") {
        setWrong(error);
        goTo(area, error.offset);
      } else note(error.message, { kind: "bad" });
    }
    setSaving(false);
  });
  const arrange = async () => {
    try {
      const { text } = await ask("layout", { text: draft.text });
      type(text);
    } catch (error) {
      setWrong(error);
      if (error.offset !== undefined) goTo(area, error.offset);
    }
  };
  const takeTheirs = (now) => {
    setValue(now);
    close();
  };
  /** Go on from what is stored now, with this text. */
  const rebase = (now, text) => {
    const opened = now.exists ? now.text : "";
    keep(scope, name, { base: now.base, opened, text, laid_out: true });
    setIncoming(null);
    setConflict(null);
    focus();
  };

  useEffect(() => {
    const keyed = (event) => {
      if (event.defaultPrevented || document.querySelector("dialog[open]")) return;
      if (event.key === "Enter" && (event.ctrlKey || event.metaKey) && drafted.now.has(`${scope}\n${name}`) && !conflict) {
        event.preventDefault();
        save();
      }
    };
    addEventListener("keydown", keyed);
    return () => removeEventListener("keydown", keyed);
  }, [conflict]);

  const head = html`<header>
    <a class="up" href=${address("state", scope)} aria-label="All keys of the scope"><${Icon} name="back" /></a>
    <h1 class="key-name" title=${plain(name)}><${Name} text=${name} /></h1>
    ${!draft &&
    !past &&
    html`<div class="acts">
      <button class="main" data-edit title="Edit (e)" disabled=${!value || value.too_large || !canSave} onClick=${edit}>
        <${Icon} name="pen" /><span>${value && !value.exists ? "Make" : "Edit"}</span>
      </button>
      <button class="quiet" title="Delete" disabled=${!value?.exists} onClick=${onDelete}>
        <${Icon} name="trash" /><span class="hidden">Delete this key</span>
      </button>
    </div>`}
    ${draft &&
    !past &&
    !conflict &&
    html`<div class="acts">
      <button onClick=${arrange} title="Lay the text out">Format</button>
      <button onClick=${leave} title="Esc">Cancel</button>
      <button class="main" disabled=${saving} title="Ctrl-Enter" onClick=${() => save()}>Save</button>
    </div>`}
  </header>
  <nav class="tabs views" aria-label="Views of the key">
    <a href=${address("state", scope, name)} aria-current=${past ? undefined : "page"}>Value</a>
    <a href=${address("state", scope, name, "history")} aria-current=${past ? "page" : undefined} title="h">History</a>
  </nav>`;

  if (problem)
    return html`<section class="pane value" aria-label="Value">${head}<${Trouble} problem=${problem} retry=${load} /></section>`;
  if (!value) return html`<section class="pane value" aria-label="Value">${head}<div class="loading" /></section>`;
  if (past)
    return html`<section class="pane value" aria-label="History">
      ${head}
      <${History} scope=${scope} name=${name} changed=${changed} editing=${Boolean(draft)} canSave=${canSave} onDelete=${onDelete} />
    </section>`;
  if (conflict)
    return html`<section class="pane value" aria-label="Value">
      ${head}
      <${Conflict} conflict=${conflict} onSave=${save} onTheirs=${takeTheirs} onEdit=${rebase} />
    </section>`;
  return html`<section class="pane value" aria-label="Value">
    ${head}
    ${draft &&
    incoming &&
    html`<div class="bar" role="status">
      <${Icon} name="warn" />
      <span>${incoming.exists ? "The value was changed by somebody else" : "The key was deleted by somebody else"} while you edit.</span>
      <button onClick=${() => save()}>Compare</button>
      <button onClick=${() => takeTheirs(incoming)}>Drop mine</button>
    </div>`}
    ${!canSave && html`<div class="bar"><${Icon} name="warn" /><span>This engine has no <code>state::compare-and-set</code>: a save could overwrite what others wrote, so values are only shown.</span></div>`}
    ${value.too_large
      ? html`<div class="large">
          <${Empty} icon="state" title=${bytes(value.size)}>
            <p>A value of more than 2 MB is not edited here. It begins like this:</p>
          <//>
          <pre tabindex="0" aria-label="The beginning of the value">${value.text}…</pre>
        </div>`
      : !value.exists && !draft
        ? html`<${Empty} icon="key" title="No value">
            <p>There is no such key, or it was deleted.</p>
            ${canSave && html`<button class="main" onClick=${edit}>Make it</button>`}
          <//>`
        : html`<${Editor}
            text=${draft ? draft.text : value.text}
            readOnly=${!draft || saving}
            label=${`Value of ${plain(name)}`}
            area=${area}
            wrong=${draft ? wrong : null}
            onInput=${(text) => {
              setWrong(null);
              type(text);
            }}
            onPlace=${setPlace}
            onKeyDown=${(event) => {
              if (event.key === "Escape" && draft) {
                event.preventDefault();
                event.stopPropagation();
                leave();
              }
            }}
          />`}
    <footer>
      ${draft
        ? wrong
          ? html`<span role="alert"><button class="wrong" onClick=${() => goTo(area, wrong.offset)}>
              Line ${wrong.line}, column ${wrong.column}: ${wrong.message}
            </button></span>`
          : html`<span class=${draft.text === draft.opened ? "" : "edited"}>${draft.text === draft.opened ? "Not changed" : "Edited"}</span>`
        : html`<span>${value.exists && bytes(value.size)}</span>`}
      ${!draft && !value.laid_out && !value.too_large && html`<span>as it was stored</span>`}
      ${!draft && changed && html`<span class="fresh" key=${changed}>changed ${ago(changed)}</span>`}
      <span class="gap" />
      ${!draft && value.exists && known?.offers.has("iii-skill::state::expire") && html`<${Ends} scope=${scope} name=${name} changed=${changed} />`}
      ${draft && html`<span class="faint place">Ln ${place.line}, Col ${place.column}</span>`}
    </footer>
    ${leaving &&
    html`<${Confirm} title="Drop your edit?" verb="Drop it" onYes=${close} onClose=${() => setLeaving(false)}>
      <p>What you typed is not saved.</p>
    <//>`}
  </section>`;
}
