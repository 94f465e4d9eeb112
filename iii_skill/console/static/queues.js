// Queues and topics: what waits, what failed for good, and another try for it.
import { html, useState, useValue } from "./lib.js";
import { about, ask, listing } from "./api.js";
import { usePolled } from "./poll.js";
import { address } from "./route.js";
import { ago, Confirm, count, Empty, Icon, Name, note, plain, Trouble } from "./ui.js";

const LIST = "engine::queue::list_topics";
const MOST = 200;

export function QueuesPage({ name }) {
  const known = useValue(about);
  if (known && !known.offers.has(LIST))
    return html`<section class="pane whole"><${Empty} icon="queues" title="No queues here">
      <p>Queues run in <code>iii-skill serve</code> unless it is started with <code>--without queue</code>.</p>
    <//></section>`;
  return name === undefined ? html`<${All} />` : html`<${Letters} key=${name} name=${name} />`;
}

function All() {
  const { data, problem, again } = usePolled(async () => {
    const topics = await listing(LIST);
    const names = [...new Set(topics.map((one) => one.name))].sort().slice(0, MOST);
    const rows = names.map(async (name) => ({ name, ...(await listing("engine::queue::topic_stats", { topic: name })) }));
    return Promise.all(rows);
  });
  return html`<section class="pane whole" aria-label="Queues">
    <header><h1>Queues and topics ${data && html`<small>${count(data.length)}</small>`}</h1></header>
    <div class="flow" tabindex="0">
      ${problem && html`<${Trouble} problem=${problem} retry=${again} />`}
      ${!data && !problem && html`<div class="loading" />`}
      ${data &&
      !data.length &&
      html`<${Empty} icon="queues" title="No queue yet">
        <p>The first call with the action Enqueue makes one; a topic is there with its first subscriber.</p>
      <//>`}
      ${data?.length > 0 &&
      html`<table class="table">
        <caption class="hidden">Queues and topics</caption>
        <thead><tr><th>Name</th><th class="n">Waiting</th><th class="n">Consumers</th><th class="n">Dead letters</th><th><span class="hidden">What can be done</span></th></tr></thead>
        <tbody>${data.map(
          (one) => html`<tr key=${one.name}>
            <td data-label="Name" class="mono"><a href=${address("queues", one.name)}><${Name} text=${one.name} /></a></td>
            <td data-label="Waiting" class="n">${count(one.depth)}</td>
            <td data-label="Consumers" class="n">${count(one.consumer_count)}</td>
            <td data-label="Dead letters" class="n ${one.dlq_depth ? "bad" : "soft"}">${count(one.dlq_depth)}</td>
            <td class="n">${one.dlq_depth > 0 && html`<button onClick=${() => redrive(one.name, again)}>Try again<span class="hidden"> all dead letters of ${plain(one.name)}</span></button>`}</td>
          </tr>`,
        )}</tbody>
      </table>`}
    </div>
  </section>`;
}

async function act(functionId, payload, said, after) {
  try {
    await ask("call", { function_id: functionId, text: JSON.stringify(payload) });
    note(said);
  } catch (error) {
    note(error.message, { kind: "bad" });
  }
  after();
}

function redrive(name, after) {
  return act("iii::queue::redrive", { queue: name }, `All dead letters of ${plain(name)} are tried again`, after);
}

function Letters({ name }) {
  const [discarding, setDiscarding] = useState(null);
  const { data, problem, again } = usePolled(async () => {
    const [stats, letters] = await Promise.all([
      listing("engine::queue::topic_stats", { topic: name }),
      listing("engine::queue::dlq_messages", { topic: name, limit: 50 }),
    ]);
    return { stats, letters };
  });
  const letters = data?.letters ?? [];
  return html`<section class="pane whole" aria-label="Queue">
    <header>
      <a class="up always" href=${address("queues")} aria-label="All queues"><${Icon} name="back" /></a>
      <h1 class="key-name"><${Name} text=${name} /></h1>
      <div class="tools">
        <button class="main" disabled=${!letters.length} onClick=${() => redrive(name, again)}>Try all again</button>
      </div>
    </header>
    <div class="flow" tabindex="0">
      ${problem && html`<${Trouble} problem=${problem} retry=${again} />`}
      ${!data && !problem && html`<div class="loading" />`}
      ${data &&
      html`<dl class="facts">
        <div><dt>Waiting</dt><dd>${count(data.stats.depth)}</dd></div>
        <div><dt>Consumers</dt><dd>${count(data.stats.consumer_count)}</dd></div>
        <div><dt>Dead letters</dt><dd>${count(data.stats.dlq_depth)}</dd></div>
      </dl>`}
      ${data?.stats.depth > 0 && html`<p class="nothing">What waits is kept until a worker offers its function, or subscribes to the topic, and takes it.</p>`}
      ${data && !letters.length && html`<${Empty} icon="check" title="No dead letters"><p>A job that has used up its attempts is kept here.</p><//>`}
      ${letters.map(
        (one) => html`<article class="letter" key=${one.id}>
          <header>
            <strong>${plain(one.error ?? "failed")}</strong>
            <span class="soft">${one.failed_at ? ago(one.failed_at * 1000) : ""}${one.retries !== undefined ? ` · ${count(one.retries)} ${one.retries === 1 ? "attempt" : "attempts"}` : ""}</span>
            <div class="acts">
              <button onClick=${() => act("iii::queue::redrive_message", { queue: name, message_id: one.id }, "It is tried again", again)}>Try again</button>
              <button class="quiet" onClick=${() => setDiscarding(one)}><${Icon} name="trash" /><span class="hidden">Discard</span></button>
            </div>
          </header>
          <pre class="preview" tabindex="0" aria-label="Job">${JSON.stringify(one.payload ?? one.data ?? null, null, 2).slice(0, 4000)}</pre>
        </article>`,
      )}
      ${data && data.stats.dlq_depth > letters.length && html`<p class="nothing">The newest ${count(letters.length)} are shown.</p>`}
    </div>
    ${discarding &&
    html`<${Confirm} title="Discard this dead letter?" verb="Discard" onClose=${() => setDiscarding(null)} onYes=${() => {
      setDiscarding(null);
      act("iii::queue::discard_message", { queue: name, message_id: discarding.id }, "Discarded", again);
    }}><p>Its job is not tried again, and its payload is gone.</p><//>`}
  </section>`;
}
