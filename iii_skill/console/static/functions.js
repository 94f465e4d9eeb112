// Functions: what there is, a form for the payload of one, and what it answers.
import { html, useEffect, useMemo, useRef, useState, useStable } from "./lib.js";
import { ask, listing } from "./api.js";
import { Editor, goTo } from "./editor.js";
import { Form, membersOf, textOf } from "./form.js";
import { List, enter } from "./list.js";
import { usePolled } from "./poll.js";
import { address, go } from "./route.js";
import { bytes, count, Empty, Icon, Name, plain, Search, Trouble } from "./ui.js";

export function FunctionsPage({ id }) {
  const [text, setText] = useState("");
  const [own, setOwn] = useState(false);
  const [at, setAt] = useState(null);
  const { data, problem, again } = usePolled(async () => {
    const answer = await listing("engine::functions::list", { include_internal: true });
    return answer.functions;
  });
  const shown = useMemo(() => {
    const wanted = text.toLowerCase();
    const fits = (one) => `${one.function_id} ${one.worker_name ?? ""} ${one.description ?? ""}`.toLowerCase();
    return (data ?? []).filter((one) => (!own || !builtin(one)) && fits(one).includes(wanted));
  }, [data, text, own]);
  useEffect(() => setAt(id ?? null), [id]);
  const cursor = shown.findIndex((one) => one.function_id === at);
  const setCursor = (index) => setAt(shown[index]?.function_id ?? null);
  const chosen = (data ?? []).find((one) => one.function_id === id);
  return html`<div class="panes two ${id === undefined ? "at-scope" : "at-key"}">
    <section class="pane keys" aria-label="Functions">
      <header><h1>Functions ${data && html`<small>${count(shown.length)}</small>`}</h1></header>
      <div class="tools"><${Search} label="Filter functions" value=${text} onInput=${setText} onDown=${() => {
        if (cursor < 0) setCursor(0);
        enter("functions");
      }} /></div>
      <div class="tools"><label class="check"><input type="checkbox" checked=${own} onChange=${(event) => setOwn(event.target.checked)} /> Of workers only</label></div>
      ${problem && html`<${Trouble} problem=${problem} retry=${again} />`}
      ${!data && !problem && html`<div class="loading" />`}
      ${shown.length > 0 &&
      html`<${List}
        name="functions" role="listbox" label="Functions" total=${shown.length} height=${44}
        cursor=${cursor} onCursor=${setCursor}
        onOpen=${(index) => {
          go("functions", shown[index].function_id);
        }}
        row=${(index) => ({
          selected: shown[index].function_id === id,
          class: "double",
          content: html`<span class="name"><${Name} text=${shown[index].function_id} /></span>
            <span class="below">${plain(shown[index].worker_name ?? "")}${shown[index].private ? " · private" : ""}</span>`,
        })}
      />`}
      ${data && !shown.length && html`<p class="nothing">${text ? `No function holds “${text}”.` : "No worker has registered a function."}</p>`}
    </section>
    ${chosen
      ? html`<${One} key=${id} one=${chosen} />`
      : html`<section class="pane value hollow">
          <${Empty} icon="functions" title=${id !== undefined && data ? "No such function now" : "Choose a function"}>
            <p>It can be called with a payload that its schema asks for, and answers here.</p>
          <//>
        </section>`}
  </div>`;
}

const builtin = (one) => /^(iii|engine|configuration|state|stream|queue|cron|observability|http)[-:]/.test(one.function_id) || ["publish", "enqueue"].includes(one.function_id);

function One({ one }) {
  const [info, setInfo] = useState(null);
  const [fields, setFields] = useState({});
  const [typed, setTyped] = useState(null);
  const [mode, setMode] = useState("form");
  const [answer, setAnswer] = useState(null);
  const [calling, setCalling] = useState(false);
  const [wrong, setWrong] = useState(null);
  const [waits, setWaits] = useState("30");
  const area = useRef();
  useEffect(() => {
    const asked = { function_id: one.function_id, namespace: one.namespace };
    listing("engine::functions::info", asked).then(setInfo, () => setInfo({}));
  }, []);
  const schema = info?.request_schema;
  const formed = schema?.type === "object" && Object.keys(membersOf(schema)).length > 0;
  const shown = formed ? mode : "json";
  const text = shown === "form" ? textOf(schema, fields) : (typed ?? (formed ? textOf(schema, fields) : "{}"));
  const call = useStable(async () => {
    if (calling || one.private) return;
    setCalling(true);
    setAnswer(null);
    setWrong(null);
    try {
      const timeout = Number(waits) * 1000 || 30_000;
      setAnswer(await ask("call", { function_id: one.function_id, namespace: one.namespace, text, timeout_ms: timeout, layout: true }));
    } catch (problem) {
      if (problem.code === "INVALID_JSON") {
        setWrong(problem);
        if (shown === "json") goTo(area, problem.offset);
      } else setAnswer({ problem });
    }
    setCalling(false);
  });
  const keyed = (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
      event.preventDefault();
      call();
    } else if (event.key === "Escape" && event.target.matches("input, textarea, select")) {
      event.stopPropagation();
      event.target.blur();
      enter("functions");
    }
  };
  return html`<section class="pane value" aria-label="Function" onKeyDown=${keyed}>
    <header>
      <a class="up" href=${address("functions")} aria-label="All functions"><${Icon} name="back" /></a>
      <h1 class="key-name" title=${plain(one.function_id)}><${Name} text=${one.function_id} /></h1>
      <button class="main" disabled=${calling || one.private} title="Ctrl-Enter" onClick=${call}>
        <${Icon} name="play" /><span>${calling ? "Waiting" : "Invoke"}</span>
      </button>
    </header>
    <div class="flow" tabindex="0">
      <p class="prose">${one.description ?? "It says nothing about itself."}</p>
      <dl class="facts">
        <div><dt>Worker</dt><dd>${plain(one.worker_name ?? "not told")}</dd></div>
        ${one.namespace && html`<div><dt>Namespace</dt><dd>${plain(one.namespace)}</dd></div>`}
        ${one.observer_count > 0 && html`<div><dt>Observers</dt><dd>${count(one.observer_count)}</dd></div>`}
        ${info?.registered_triggers?.length > 0 && html`<div><dt>Triggers</dt><dd>${info.registered_triggers.map((trigger) => trigger.trigger_type).join(", ")}</dd></div>`}
      </dl>
      ${one.private
        ? html`<p class="prose">It is private: it is observed, and called by nobody.</p>`
        : html`<div class="part">
            <div class="parthead">
              <h2>Payload</h2>
              ${formed &&
              html`<div class="tabs" role="group" aria-label="How the payload is written">
                <button aria-pressed=${shown === "form"} onClick=${() => setMode("form")}>Form</button>
                <button aria-pressed=${shown === "json"} onClick=${() => {
                  setTyped(textOf(schema, fields));
                  setMode("json");
                }}>JSON</button>
              </div>`}
            </div>
            ${shown === "form"
              ? html`<${Form} schema=${schema} fields=${fields} onFields=${setFields} /><pre class="preview" aria-label="Payload as JSON" tabindex="0">${text}</pre>`
              : html`<div class="box"><${Editor} label="Payload as JSON" text=${text} area=${area} wrong=${wrong} onInput=${(now) => {
                  setTyped(now);
                  setWrong(null);
                }} /></div>`}
            <div class="parthead">
              ${wrong ? html`<p class="said" role="alert">Line ${wrong.line}, column ${wrong.column}: ${wrong.message}</p>` : html`<span />`}
              <label class="waits">Wait <input inputmode="numeric" value=${waits} onInput=${(event) => setWaits(event.target.value)} /> s</label>
            </div>
          </div>`}
      ${answer && html`<${Answer} answer=${answer} />`}
    </div>
  </section>`;
}

function Answer({ answer }) {
  const { problem } = answer;
  return html`<div class="part" role="region" aria-label="Answer">
    <div class="parthead">
      <h2>${problem ? "Failed" : "Answer"}</h2>
      ${!problem && html`<span class="faint">${answer.duration_ms < 10 ? answer.duration_ms.toFixed(1) : count(Math.round(answer.duration_ms))} ms${answer.size > 0 && ` · ${bytes(answer.size)}`}</span>`}
    </div>
    <div class="hidden" role="status">${problem ? "The call failed" : "The call was answered"}</div>
    ${problem
      ? html`<${Trouble} problem=${problem} />${problem.stacktrace && html`<pre class="preview" tabindex="0" aria-label="Stack trace">${problem.stacktrace}</pre>`}`
      : answer.text === null
        ? html`<p class="prose">It gave no result.</p>`
        : html`<div class="box answer"><${Editor} label="Answer" text=${answer.text} readOnly plain=${answer.text.length > 300_000} /></div>
            ${answer.cut && html`<p class="prose">The answer is longer; this is its beginning.</p>`}`}
  </div>`;
}
