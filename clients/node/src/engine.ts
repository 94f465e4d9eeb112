/** Engine: a fresh engine of a test, on free ports, with all that a test asks of it. */
import { Calls } from './calls.js';
import { Clock } from './clock.js';
import { type Control, EngineError } from './control.js';
import { Events } from './events.js';
import { Faults } from './faults.js';
import { control } from './host.js';
import { Http } from './http.js';
import { encoded, type Json, object } from './json.js';
import { State } from './state.js';
import { type Register, RunningWorker, startProcess, startInside, type WorkerOptions } from './worker.js';

/** Asks a verb of one engine, and gives its decoded result. */
export type AskJson = <T>(verb: string, asked: object) => Promise<T>;

/** What an engine runs. */
export interface EngineOptions {
  /** Where it keeps state: `memory` (default), `file` (a directory of its own), `redis`, … */
  adapter?: string;
  /** Settings of the adapter; `{unique}` in them makes a store of its own, which is removed at the end. */
  adapterConfig?: Record<string, Json>;
  /** The path of an iii-config.yaml. */
  config?: string;
}

interface Told {
  engine: string;
  url: string;
  http_url: string | null;
}

export interface Ready {
  /** What to wait for; without it the worker is ready when it has registered something and rests. */
  functions?: string[];
  /** Who is waited for, in messages. */
  name?: string;
  /** The process of the worker, which is looked at. */
  pid?: number;
  /** What was registered before. */
  before?: string[];
  /** Seconds (30). */
  within?: number;
  signal?: AbortSignal;
}

/** Start a fresh engine; takes some milliseconds, the first one of a process some hundred. */
export async function startEngine(options: EngineOptions = {}): Promise<Engine> {
  const { adapter, adapterConfig: adapter_config, config } = options;
  const open = async () => {
    const host = await control();
    return new Engine(host, await host.ask<Told>('', { adapter, adapter_config, config }));
  };
  // A host that has ended since the last engine is started again.
  return open().catch((error: unknown) => {
    if (error instanceof EngineError && error.code === 'ENGINE_LOST') return open();
    throw error;
  });
}

export class Engine {
  /** Where workers connect: III_URL. */
  readonly url: string;
  readonly state: State;
  readonly http: Http;
  readonly events: Events;
  readonly calls: Calls;
  readonly faults: Faults;
  readonly clock: Clock;
  readonly #host: Control;
  readonly #path: string;
  readonly #httpUrl: string | null;
  readonly #workers: RunningWorker[] = [];
  #closing: Promise<void> | undefined;

  /** @internal Use `startEngine`. */
  constructor(host: Control, { engine, url, http_url }: Told) {
    this.url = url;
    this.#host = host;
    this.#path = `/${engine}`;
    this.#httpUrl = http_url;
    const ask: AskJson = (verb, asked) => host.ask(`${this.#path}/${verb}`, asked);
    this.state = new State((verb, asked) => host.askText(`${this.#path}/${verb}`, asked));
    this.http = new Http(() => this.httpUrl);
    this.events = new Events(ask);
    this.calls = new Calls(ask);
    this.faults = new Faults(ask);
    this.clock = new Clock(ask);
  }

  /** Where HTTP clients connect. */
  get httpUrl(): string {
    if (this.#httpUrl === null)
      throw new Error('this engine has no HTTP port: its configuration lists no iii-http');
    return this.#httpUrl;
  }

  /** What makes any SDK connect to this engine. */
  get environment(): Record<string, string> {
    const found = { III_URL: this.url, III_ENGINE_URL: this.url };
    return this.#httpUrl === null ? found : { ...found, III_HTTP: this.#httpUrl };
  }

  /** The result of a function, as a worker that calls it gets it; EngineError when it fails. */
  async call<T = Json>(
    functionId: string,
    payload: Json = {},
    { within }: { within?: number } = {},
  ): Promise<T> {
    const asked = { function: encoded(functionId), payload: encoded(payload) };
    const more = within === undefined ? {} : { within: encoded(within) };
    const text = await this.#host.askText(`${this.#path}/call`, object({ ...asked, ...more }));
    return (text === undefined ? undefined : JSON.parse(text)) as T;
  }

  /**
   * Start a worker and wait until its functions are registered.
   *
   * `target` is a program (`worker.mjs`, `worker.py`, a folder with a Cargo.toml, an executable), a command,
   * or a function that gets a connected client of the Node SDK and registers. The error says what the
   * worker wrote when it ends before. It ends with the engine.
   */
  async worker(
    target: string | readonly string[] | Register,
    options: WorkerOptions = {},
  ): Promise<RunningWorker> {
    const start = typeof target === 'function' ? startInside(target) : startProcess(target);
    const worker = await start(this, options, (one) => this.#workers.push(one));
    return worker;
  }

  /** Wait until a worker has registered its functions; gives their ids. */
  ready({ signal, ...asked }: Ready = {}): Promise<string[]> {
    return this.#host.ask(`${this.#path}/ready`, asked, signal);
  }

  /** The ids of the functions that workers have registered. */
  functions(): Promise<string[]> {
    return this.#host.ask(`${this.#path}/functions`);
  }

  /** Wait until no call is in flight, no event undelivered and no worker computes; an error names what is left. */
  settle({ within }: { within?: number } = {}): Promise<void> {
    return this.#host.ask(`${this.#path}/settle`, { within });
  }

  /** All that happened: calls, events, workers, faults, one JSON object a line. */
  transcript(): Promise<string> {
    return this.#host.ask(`${this.#path}/transcript`);
  }

  /** The end of that for people, and what the workers wrote. */
  async report(): Promise<string> {
    const happened = await this.#host.ask<string>(`${this.#path}/report`);
    const sections = [['iii engine', happened], ...this.#workers.map((one) => [one.title, one.output])];
    return sections
      .filter(([, text]) => text)
      .map(([title, text]) => `--- ${title} ---\n${text}`)
      .join('\n');
  }

  /** End its workers and the engine; safe to call twice. */
  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  async #close(): Promise<void> {
    try {
      for (const worker of this.#workers.reverse()) await worker.stop();
    } finally {
      await this.#host.ask(`${this.#path}/close`).catch((error: EngineError) => {
        // With its host it has ended as well.
        if (error.code !== 'ENGINE_LOST') throw error;
      });
    }
  }
}
