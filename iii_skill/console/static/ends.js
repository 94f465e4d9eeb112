// When a key ends, and another end for it.
import { html, useEffect, useState } from "./lib.js";
import { listing } from "./api.js";
import { usePolled } from "./poll.js";
import { Dialog, Icon, moment, note } from "./ui.js";

const EXPIRE = "iii-skill::state::expire";
const SOON = [
  ["1 hour", 3_600_000],
  ["1 day", 86_400_000],
  ["1 week", 604_800_000],
];

export function Ends({ scope, name, changed }) {
  const [open, setOpen] = useState(false);
  const { data, again } = usePolled(() => listing(EXPIRE, { scope, key: name }), [changed]);
  const [, tick] = useState(0);
  const at = data?.found ? data.expires_at_ms : null;
  useEffect(() => {
    if (at === null) return undefined;
    const timer = setInterval(() => tick(Date.now()), 1000);
    return () => clearInterval(timer);
  }, [at]);
  if (!data?.found) return null;
  const set = async (at_ms) => {
    setOpen(false);
    try {
      const answer = await listing(EXPIRE, { scope, key: name, at_ms });
      note(!answer.found ? "The key is gone already." : at_ms === null ? "The key stays" : `The key ends ${moment(at_ms)}`);
    } catch (error) {
      note(error.message, { kind: "bad" });
    }
    again();
  };
  return html`<button class="ends ${at === null ? "" : "some"}" title="When the key ends" onClick=${() => setOpen(true)}>
      <${Icon} name="clock" /><span>${at === null ? "Stays" : html`Ends at ${moment(at)}<span class="left">, ${left(at)}</span>`}</span>
    </button>
    ${open && html`<${When} at=${at} onSet=${set} onClose=${() => setOpen(false)} />`}`;
}

function When({ at, onSet, onClose }) {
  const [text, setText] = useState(typed(at ?? Date.now() + SOON[0][1]));
  const chosen = new Date(text).getTime();
  return html`<${Dialog} title="When does this key end?" onClose=${onClose}>
    <form
      onSubmit=${(event) => {
        event.preventDefault();
        onSet(chosen);
      }}
    >
      <label class="field">
        <span>Ends at</span>
        <input type="datetime-local" step="1" required autofocus value=${text} onInput=${(event) => setText(event.target.value)} />
      </label>
      <div class="soon" role="group" aria-label="In">
        ${SOON.map(([name, ms]) => html`<button type="button" class="quiet" onClick=${() => setText(typed(Date.now() + ms))}>In ${name}</button>`)}
      </div>
      <p class="said" role="alert">${chosen <= Date.now() ? "That is past: the key would be deleted now." : ""}</p>
      <div class="buttons">
        ${at !== null && html`<button type="button" onClick=${() => onSet(null)}>Let it stay</button>`}
        <span class="gap" />
        <button type="button" onClick=${onClose}>Cancel</button>
        <button class="main" disabled=${!(chosen > Date.now())}>Set</button>
      </div>
    </form>
  <//>`;
}

/** A moment as an input of the browser takes it, in local time. */
function typed(ms) {
  const at = new Date(ms);
  return new Date(ms - at.getTimezoneOffset() * 60_000).toISOString().slice(0, 19);
}

function left(at) {
  const seconds = Math.max(0, Math.ceil((at - Date.now()) / 1000));
  const parts = [
    [Math.floor(seconds / 86400), "d"],
    [Math.floor(seconds / 3600) % 24, "h"],
    [Math.floor(seconds / 60) % 60, "min"],
    [seconds % 60, "s"],
  ];
  const first = parts.findIndex(([number]) => number > 0);
  if (first < 0) return "now";
  return `in ${parts.slice(first, first + 2).map(([number, unit]) => `${number} ${unit}`).join(" ")}`;
}
