// Making and deleting keys.
import { html, useRef, useState } from "./lib.js";
import { ask } from "./api.js";
import { Editor, goTo } from "./editor.js";
import { go } from "./route.js";
import { Confirm, count, Dialog, Name, note, plain } from "./ui.js";
import { dropDraft } from "./value.js";

export function NewKey({ scope, prefix, onClose }) {
  const [inside, setInside] = useState(scope);
  const [name, setName] = useState(prefix);
  const [text, setText] = useState("{}");
  const [wrong, setWrong] = useState(null);
  const [problem, setProblem] = useState(null);
  const area = useRef();
  const save = async () => {
    try {
      const answer = await ask("save", { scope: inside, key: name, text, base: null, laid_out: true });
      if (!answer.saved) {
        setProblem({ message: "There is such a key already.", exists: true });
        return;
      }
      onClose();
      note(`Made ${plain(name)}`);
      go("state", inside, name);
    } catch (error) {
      setProblem(error);
      if (error.code === "INVALID_JSON") {
        setWrong(error);
        goTo(area, error.offset);
      }
    }
  };
  return html`<${Dialog} title="New key" onClose=${onClose} wide>
    <form
      onSubmit=${(event) => {
        event.preventDefault();
        save();
      }}
      onKeyDown=${(event) => {
        if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
          event.preventDefault();
          save();
        }
      }}
    >
      <div class="pair">
        <label class="field"><span>Scope</span><input value=${inside} spellcheck=${false} autofocus=${!scope} onInput=${(event) => setInside(event.target.value)} /></label>
        <label class="field"><span>Key</span><input value=${name} spellcheck=${false} required autofocus=${Boolean(scope)} onInput=${(event) => setName(event.target.value)} /></label>
      </div>
      <div class="field">
        <span>Value, as JSON</span>
        <${Editor} label="Value, as JSON" text=${text} area=${area} wrong=${wrong} onInput=${(now) => {
          setText(now);
          setWrong(null);
          setProblem(null);
        }} />
      </div>
      <p class="said" role="alert">
        ${problem && (problem.line ? `Line ${problem.line}, column ${problem.column}: ${problem.message}` : problem.message)}
        ${problem?.exists && html` <a href="#" onClick=${(event) => {
          event.preventDefault();
          onClose();
          go("state", inside, name);
        }}>Open it</a>`}
      </p>
      <div class="buttons">
        <button type="button" onClick=${onClose}>Cancel</button>
        <button class="main" title="Ctrl-Enter">Make it</button>
      </div>
    </form>
  <//>`;
}

/** For engines that list no keys. */
export function OpenKey({ scope, onClose }) {
  const [name, setName] = useState("");
  return html`<${Dialog} title="Open a key" onClose=${onClose}>
    <form
      onSubmit=${(event) => {
        event.preventDefault();
        onClose();
        go("state", scope, name);
      }}
    >
      <label class="field"><span>Key</span><input value=${name} required autofocus spellcheck=${false} onInput=${(event) => setName(event.target.value)} /></label>
      <div class="buttons"><button type="button" onClick=${onClose}>Cancel</button><button class="main">Open</button></div>
    </form>
  <//>`;
}

export function DeleteKey({ scope, name, onClose }) {
  const remove = async () => {
    onClose();
    try {
      const { deleted } = await ask("delete", { scope, key: name });
      dropDraft(scope, name);
      go("state", scope);
      if (!deleted.exists) note("It was gone already.");
      else if (deleted.base === null) note(`Deleted ${plain(name)}`);
      else note(`Deleted ${plain(name)}`, { action: "Undo", onAction: () => restore(deleted) });
    } catch (error) {
      note(error.message, { kind: "bad" });
    }
  };
  const restore = async (deleted) => {
    try {
      const fields = { scope, key: name, text: deleted.base, base: null, laid_out: false };
      const { saved } = await ask("save", fields);
      note(saved ? `${plain(name)} is back` : "There is such a key again; nothing was changed.");
      go("state", scope, name);
    } catch (error) {
      note(error.message, { kind: "bad" });
    }
  };
  return html`<${Confirm} title="Delete this key?" verb="Delete" onYes=${remove} onClose=${onClose}>
    <p><code class="block"><${Name} text=${name} /></code></p>
    <p>Those who listen to it are told. It can be undone for a moment.</p>
  <//>`;
}

/** Delete all keys that begin with a prefix, some hundred at a time, until done or cancelled. */
export function DeleteUnder({ scope, prefix, count: total, onClose }) {
  const [done, setDone] = useState(null);
  const stopped = useRef(false);
  const run = async () => {
    let after = null;
    let deleted = 0;
    setDone(0);
    try {
      do {
        const answer = await ask("delete-under", { scope, prefix, after });
        deleted += answer.deleted;
        after = answer.after;
        setDone(deleted);
      } while (after !== null && !stopped.current);
      note(`Deleted ${count(deleted)} ${deleted === 1 ? "key" : "keys"}`);
    } catch (error) {
      note(`Deleted ${count(deleted)}, then: ${error.message}`, { kind: "bad" });
    }
    onClose();
    go("state", scope);
  };
  const what = prefix === "" ? html`All keys of <code><${Name} text=${scope} /></code>` : html`All keys that begin with <code><${Name} text=${prefix} /></code>`;
  const number = `${count(total)} ${total === 1 ? "key" : "keys"}`;
  if (done === null)
    return html`<${Confirm} title=${`Delete ${number}?`} verb=${`Delete ${number}`} onYes=${run} onClose=${onClose}>
      <p>${what} are deleted, one after the other. This cannot be undone.</p>
    <//>`;
  return html`<${Dialog} title="Deleting" onClose=${() => (stopped.current = true)}>
    <progress max=${total} value=${done} aria-label="Deleted keys" />
    <p class="prose">${count(done)} of ${count(total)}</p>
    <div class="buttons"><button onClick=${() => (stopped.current = true)}>Stop</button></div>
  <//>`;
}
