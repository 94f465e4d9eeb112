// Triggers and observers: what calls what, when it did last, and how that went.
import { html, useMemo, useState } from "./lib.js";
import { about, listing } from "./api.js";
import { usePolled } from "./poll.js";
import { address } from "./route.js";
import { ago, clock, count, Empty, Name, plain, Search, Trouble } from "./ui.js";

const ACTIVITY = "iii-skill::triggers::activity";

export function TriggersPage() {
  const [text, setText] = useState("");
  const { data, problem, again } = usePolled(async () => {
    const offers = about.now?.offers ?? new Set();
    const [triggers, observers, activity] = await Promise.all([
      listing("engine::registered-triggers::list"),
      offers.has("engine::observers::list") ? listing("engine::observers::list") : null,
      offers.has(ACTIVITY) ? listing(ACTIVITY) : null,
    ]);
    return { triggers: triggers.registered_triggers, observers: observers?.observers, activity };
  });
  const wanted = text.toLowerCase();
  const fits = (one) => JSON.stringify(one).toLowerCase().includes(wanted);
  const triggers = useMemo(() => (data?.triggers ?? []).filter(fits), [data, text]);
  const observers = useMemo(() => (data?.observers ?? []).filter(fits), [data, text]);
  const none = data && !data.triggers.length && !data.observers?.length;
  return html`<section class="pane whole" aria-label="Triggers and observers">
    <header><h1>Triggers and observers</h1><div class="tools"><${Search} label="Type, function, source" value=${text} onInput=${setText} /></div></header>
    <div class="flow" tabindex="0">
      ${problem && html`<${Trouble} problem=${problem} retry=${again} />`}
      ${!data && !problem && html`<div class="loading" />`}
      ${none &&
      html`<${Empty} icon="triggers" title="Nothing reacts to anything yet">
        <p>A worker that registers a trigger, or observes a function, is listed here with when it was called last.</p>
      <//>`}
      ${triggers.length > 0 &&
      html`<table class="table">
        <caption>Triggers <small>${count(triggers.length)}</small></caption>
        <thead><tr><th>Type</th><th>Calls</th><th>When</th><th class="n">Fired</th><th>Last</th><th>Failures</th></tr></thead>
        <tbody>${triggers.map((one) => html`<${Trigger} key=${one.id} one=${one} activity=${data.activity} />`)}</tbody>
      </table>`}
      ${observers.length > 0 &&
      html`<table class="table">
        <caption>Observers <small>${count(observers.length)}</small></caption>
        <thead><tr><th>State</th><th>Observes</th><th>Calls</th><th class="n">Fired</th><th>Last</th><th>Failures</th></tr></thead>
        <tbody>${observers.map((one) => html`<${Observer} key=${one.id} one=${one} activity=${data.activity} />`)}</tbody>
      </table>`}
      ${data && !none && !triggers.length && !observers.length && html`<p class="nothing">Nothing holds “${text}”.</p>`}
      ${data && !none && html`<p class="nothing">${data.activity ? `Firings are counted since ${clock(data.activity.since_ms)}, when a console first asked.` : "This engine does not tell when its triggers fired."}</p>`}
    </div>
  </section>`;
}

function Target({ id }) {
  return html`<a href=${address("functions", id)}><${Name} text=${id} /></a>`;
}

function Trigger({ one, activity }) {
  const settings = one.config_summary ?? JSON.stringify(one.config ?? null);
  return html`<tr>
    <td data-label="Type"><span class="tag">${plain(one.trigger_type)}</span></td>
    <td data-label="Calls" class="mono"><${Target} id=${one.function_id} /></td>
    <td data-label="When" class="mono soft clip" title=${plain(settings)}>${settings === "null" ? "always" : plain(settings)}</td>
    <${Fired} id=${one.id} activity=${activity} />
  </tr>`;
}

function Observer({ one, activity }) {
  const dropped = Object.values(one.dropped ?? {}).reduce((sum, number) => sum + number, 0);
  return html`<tr>
    <td data-label="State"><span class="tag ${one.state === "active" ? "good" : "waits"}" title=${one.reason?.message}>${one.state}</span></td>
    <td data-label="Observes" class="mono"><${Target} id=${one.function_id} /></td>
    <td data-label="Calls" class="mono"><${Target} id=${one.target?.function_id ?? ""} /></td>
    <${Fired} id=${one.id} activity=${activity} fires=${one.fires} dropped=${dropped} out=${one.in_flight} />
  </tr>`;
}

function Fired({ id, activity, fires, dropped, out }) {
  const found = activity?.by_id[id];
  const lost = dropped ?? found?.dropped ?? 0;
  return html`<td data-label="Fired" class="n">${activity || fires !== undefined ? count(fires ?? found?.fires ?? 0) : ""}${out > 0 ? html` <small>${count(out)} out</small>` : ""}</td>
    <td data-label="Last" class="soft">${found?.last_fired_ms ? ago(found.last_fired_ms) : activity ? "not yet" : ""}</td>
    <td data-label="Failures" class=${found?.failures || lost ? "bad" : "soft"}><div>
      ${found?.failures ? html`${count(found.failures)} · ${ago(found.last_failed_ms)}<div class="why clip" title=${plain(found.last_error)}>${plain(found.last_error)}</div>` : ""}
      ${lost > 0 ? html`<div>${count(lost)} dropped</div>` : ""}
      ${!found?.failures && !lost && activity ? "none" : ""}
    </div></td>`;
}
