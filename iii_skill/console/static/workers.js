// Workers: who is connected, with which SDK, and what they are doing.
import { html } from "./lib.js";
import { listing } from "./api.js";
import { usePolled } from "./poll.js";
import { ago, count, Empty, Name, plain, Trouble } from "./ui.js";

export function WorkersPage() {
  const { data, problem, again } = usePolled(async () => (await listing("engine::workers::list")).workers);
  const own = (data ?? []).filter((one) => one.runtime !== "engine");
  const inside = (data ?? []).filter((one) => one.runtime === "engine");
  return html`<section class="pane whole" aria-label="Workers">
    <header><h1>Workers ${data && html`<small>${count(own.length)} connected</small>`}</h1></header>
    <div class="flow" tabindex="0">
      ${problem && html`<${Trouble} problem=${problem} retry=${again} />`}
      ${!data && !problem && html`<div class="loading" />`}
      ${data &&
      !own.length &&
      html`<${Empty} icon="workers" title="No worker is connected">
        <p>A worker connects with <code>III_URL</code> set to this host. <code>iii-skill scaffold python my-worker</code> writes one.</p>
      <//>`}
      ${own.length > 0 &&
      html`<table class="table">
        <caption class="hidden">Connected workers</caption>
        <thead><tr><th>Name</th><th>SDK</th><th>Namespace</th><th class="n">Functions</th><th class="n">In flight</th><th>Connected</th><th>From</th></tr></thead>
        <tbody>${own.map(
          (one) => html`<tr key=${one.id}>
            <td data-label="Name" title=${one.id}><strong><${Name} text=${one.name ?? "no name"} /></strong>${one.description && html`<div class="soft">${plain(one.description)}</div>`}</td>
            <td data-label="SDK">${plain(one.runtime ?? "not told")} <span class="soft">${plain(one.version ?? "")}</span></td>
            <td data-label="Namespace" class="soft">${plain(one.namespace ?? "")}</td>
            <td data-label="Functions" class="n">${count(one.function_count ?? 0)}</td>
            <td data-label="In flight" class="n">${count(one.active_invocations ?? 0)}</td>
            <td data-label="Connected" class="soft">${one.connected_at_ms ? ago(one.connected_at_ms) : ""}</td>
            <td data-label="From" class="mono soft">${plain(one.ip_address ?? "")}</td>
          </tr>`,
        )}</tbody>
      </table>`}
      ${inside.length > 0 &&
      html`<table class="table">
        <caption>In the host</caption>
        <thead><tr><th>Name</th><th class="n">Functions</th></tr></thead>
        <tbody>${inside.map((one) => html`<tr key=${one.id}><td data-label="Name"><${Name} text=${one.name ?? ""} /></td><td data-label="Functions" class="n">${count(one.function_count ?? 0)}</td></tr>`)}</tbody>
      </table>`}
    </div>
  </section>`;
}
