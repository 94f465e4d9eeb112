// The frame around the pages: the way between them, the keyboard, the light, and the token.
import { html, render, useEffect, useErrorBoundary, useState, useValue } from "./lib.js";
import { about, askAbout, locked, takeToken, useToken } from "./api.js";
import { follow, status } from "./feed.js";
import { FunctionsPage } from "./functions.js";
import { QueuesPage } from "./queues.js";
import { address, go, route, watchRoute } from "./route.js";
import { StatePage } from "./state.js";
import { TailPage } from "./tail.js";
import { apply, theme, turn } from "./theme.js";
import { TriggersPage } from "./triggers.js";
import { Dialog, Icon, Notes, Trouble } from "./ui.js";
import { WorkersPage } from "./workers.js";

const PAGES = [
  { id: "state", title: "State", page: ([scope, name, view]) => html`<${StatePage} scope=${scope} name=${name} view=${view} />` },
  { id: "tail", title: "Live tail", page: () => html`<${TailPage} />` },
  { id: "functions", title: "Functions", page: ([id]) => html`<${FunctionsPage} id=${id} />` },
  { id: "triggers", title: "Triggers", page: () => html`<${TriggersPage} />` },
  { id: "workers", title: "Workers", page: () => html`<${WorkersPage} />` },
  { id: "queues", title: "Queues", page: ([name]) => html`<${QueuesPage} name=${name} />` },
];

const STATUS = {
  connecting: ["waits", "Connecting"],
  live: ["live", "Live"],
  away: ["bad", "The host is away"],
  lost: ["bad", "The console is away"],
  unavailable: ["waits", "No changes told"],
};

const KEYS = [
  ["/", "Filter what is shown"],
  ["↑ ↓ PgUp PgDn Home End", "Move in a list"],
  ["→ ←", "Open and close a branch, go to the keys and back"],
  ["Enter", "Open what the cursor is on"],
  ["n", "New key"],
  ["e", "Edit the value, or the payload of the function"],
  ["h", "The history of the key, and back to its value"],
  ["Ctrl-Enter", "Save, make, call"],
  ["Esc", "Leave the edit, the filter, the window"],
  ["Delete", "Delete the key, or what is under the branch"],
  ["Space", "Hold the live tail, and let it go on"],
  ["?", "This help"],
];

function App() {
  const at = useValue(route);
  const shut = useValue(locked);
  const [help, setHelp] = useState(false);
  const [id, ...rest] = at;
  const current = PAGES.find((page) => page.id === id) ?? PAGES[0];
  useEffect(() => {
    document.title = `${current.title} · iii console`;
    document.querySelector("nav [aria-current]").scrollIntoView({ block: "nearest", inline: "center" });
  }, [current]);
  useEffect(() => {
    const keyed = (event) => {
      if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey) return;
      if (document.querySelector("dialog[open]")) return;
      const box = event.target;
      if (box.matches?.("input, select, textarea:not([readonly])")) return;
      const page = PAGES[Number(event.key) - 1];
      if (event.key === "/") press(event, [...document.querySelectorAll("[data-search]")].filter(seen).at(-1), "focus");
      else if (event.key === "?") {
        event.preventDefault();
        setHelp(true);
      } else if (event.key === "e") {
        const button = document.querySelector("[data-edit]");
        if (button) press(event, button, "click");
        else press(event, document.querySelector(".form :is(input, select, textarea), .part .editor textarea"), "focus");
      } else if (event.key === "h") press(event, document.querySelector(".views a:not([aria-current])"), "click");
      else if (event.key === "n") press(event, [...document.querySelectorAll("[data-new]")].filter(seen).at(-1), "click");
      else if (page) go(page.id);
    };
    addEventListener("keydown", keyed);
    return () => removeEventListener("keydown", keyed);
  }, []);
  return html`<a class="skip" href="#main" onClick=${(event) => {
      event.preventDefault();
      document.querySelector("main").focus();
    }}>To the content</a>
    <nav class="side" aria-label="Pages">
      <a class="mark" href=${address("state")}><${Mark} /><span>console</span></a>
      <ul>
        ${PAGES.map(
          (page, index) => html`<li key=${page.id}>
            <a href=${address(page.id)} aria-current=${page === current ? "page" : undefined} title=${`${page.title} (${index + 1})`}>
              <${Icon} name=${page.id} /><span>${page.title}</span><kbd aria-hidden="true">${index + 1}</kbd>
            </a>
          </li>`,
        )}
      </ul>
      <${Foot} onHelp=${() => setHelp(true)} />
    </nav>
    <main id="main" tabindex="-1"><${Held} key=${current.id}>${current.page(rest)}<//></main>
    <${Notes} />
    ${shut && html`<${Locked} />`}
    ${help && html`<${Help} onClose=${() => setHelp(false)} />`}`;
}

/** A page that fails says so, and the others go on. */
function Held({ children }) {
  const [problem, forget] = useErrorBoundary();
  if (!problem) return children;
  return html`<${Trouble} problem=${{ message: `This page failed: ${problem.message}` }} retry=${forget} />`;
}

const seen = (element) => element.offsetParent !== null;

function press(event, element, what) {
  if (!element || element.disabled) return;
  event.preventDefault();
  element[what]();
}

function Mark() {
  return html`<svg class="logo" viewBox="0 0 32 32" aria-hidden="true">
    <rect x="6" y="13" width="4.4" height="13" rx="1.4" /><rect x="13.8" y="13" width="4.4" height="13" rx="1.4" />
    <rect x="21.6" y="13" width="4.4" height="13" rx="1.4" /><circle cx="8.2" cy="7.6" r="2.5" /><circle cx="16" cy="7.6" r="2.5" /><circle cx="23.8" cy="7.6" r="2.5" />
  </svg>`;
}

function Foot({ onHelp }) {
  const state = useValue(status);
  const known = useValue(about);
  const light = useValue(theme);
  const [kind, text] = STATUS[state];
  return html`<div class="foot">
    <p class="where" title=${known?.label}>
      <span class="status ${kind}" role="status">${text}</span>
      <span class="label">${known?.label}</span>
    </p>
    <div class="acts">
      <button class="quiet" onClick=${turn} title=${`Light: ${light}`}>
        <${Icon} name=${{ system: "screen", light: "sun", dark: "moon" }[light]} /><span class="hidden">Light: ${light}</span>
      </button>
      <button class="quiet" onClick=${onHelp} title="Keys (?)"><${Icon} name="help" /><span class="hidden">Keys</span></button>
    </div>
  </div>`;
}

function Help({ onClose }) {
  return html`<${Dialog} title="Keys" onClose=${onClose}>
    <dl class="shortcuts">
      ${KEYS.map(
        ([keys, what]) => html`<div><dt>${keys.split(" ").map((one) => html`<kbd>${one}</kbd> `)}</dt><dd>${what}</dd></div>`,
      )}
      <div><dt><kbd>1</kbd> to <kbd>${PAGES.length}</kbd></dt><dd>The pages</dd></div>
    </dl>
    <div class="buttons"><button class="main" autofocus onClick=${onClose}>Close</button></div>
  <//>`;
}

function Locked() {
  const [given, setGiven] = useState("");
  return html`<${Dialog} title="This console wants its token" onClose=${() => {}}>
    <div class="prose">
      <p>It was started again, or opened without the whole address. Open the address that <code>iii-skill</code> printed, or paste it here. What you typed on this page stays.</p>
    </div>
    <form
      onSubmit=${(event) => {
        event.preventDefault();
        useToken(given);
        askAbout().catch(() => {});
      }}
    >
      <label class="field"><span>Address or token</span><input value=${given} autofocus required autocomplete="off" spellcheck=${false} onInput=${(event) => setGiven(event.target.value)} /></label>
      <div class="buttons"><button class="main">Open</button></div>
    </form>
  <//>`;
}

apply();
takeToken();
watchRoute();
addEventListener("hashchange", () => takeToken(address(...route.now)));
render(html`<${App} />`, document.getElementById("app"));
if (!locked.now) askAbout().catch(() => {});
follow();
