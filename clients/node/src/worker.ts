/** Workers: in processes of their own, or in this one through the SDK. */
import { AssertionError } from 'node:assert';
import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync, statSync } from 'node:fs';
import { extname, isAbsolute, join } from 'node:path';
import type { Engine } from './engine.js';
import { Output } from './output.js';

const STOP_SECONDS = 10;

const RUNNERS: Record<string, readonly string[]> = {
  '.js': [process.execPath],
  '.mjs': [process.execPath],
  '.cjs': [process.execPath],
  '.ts': ['npx', 'tsx'],
  '.mts': ['npx', 'tsx'],
  '.py': ['python3'],
};

export interface WorkerOptions {
  /** What to wait for; without it the worker is ready when it has registered something and rests. */
  functions?: string[];
  env?: Record<string, string>;
  /** Where it runs and, unless `places` says more, where its file is looked for (the working directory). */
  cwd?: string;
  /** Where its file is looked for, in this order. */
  places?: readonly string[];
  /** Seconds that it has to register (30). */
  within?: number;
}

/** Registers functions through a client of the Node SDK, as `registerWorker` gives it. */
// eslint-disable-next-line @typescript-eslint/no-explicit-any
export type Register = (iii: any) => unknown;

/** A worker that has registered its functions. */
export abstract class RunningWorker {
  /** The ids of what it registered. */
  functions: string[] = [];
  /** How a report names it. */
  abstract readonly title: string;
  /** What it has written to stdout and stderr, at most the last 64 Ki characters. */
  abstract readonly output: string;
  /** End it in an orderly way; its exit code. Safe to call twice. */
  abstract stop(): Promise<number | null>;
  /** SIGKILL, as a crash. */
  abstract kill(): Promise<void>;
}

type Start = (
  engine: Engine,
  options: WorkerOptions,
  started: (worker: RunningWorker) => void,
) => Promise<RunningWorker>;

const running = new Set<ProcessWorker>();
process.on('exit', () => {
  for (const worker of running) worker.signal('SIGKILL');
});

class ProcessWorker extends RunningWorker {
  /** Its exit code, once it has ended. */
  readonly ended: Promise<number | null>;
  /** Why it could not be started. */
  error: Error | undefined;
  readonly #child: ChildProcess;
  readonly #output: Output;
  readonly #command: string;

  constructor(child: ChildProcess, command: string) {
    super();
    this.#child = child;
    this.#command = command;
    this.#output = new Output(child.stdout, child.stderr);
    running.add(this);
    this.ended = new Promise((resolve) => {
      child.on('error', (error) => {
        this.error = error;
        if (child.pid === undefined) resolve(null);
      });
      // Not before its output is complete.
      child.once('close', (code) => resolve(code));
    });
    void this.ended.then(() => running.delete(this));
  }

  get title(): string {
    const { exitCode, signalCode } = this.#child;
    const end = signalCode ?? exitCode;
    return `worker ${this.#command}${end === null ? '' : `, ended with ${end}`}`;
  }

  get output(): string {
    return this.#output.text;
  }

  get pid(): number | undefined {
    return this.#child.pid;
  }

  async stop(): Promise<number | null> {
    this.signal('SIGTERM');
    const timer = setTimeout(() => this.signal('SIGKILL'), STOP_SECONDS * 1000);
    try {
      return await this.ended;
    } finally {
      clearTimeout(timer);
    }
  }

  async kill(): Promise<void> {
    this.signal('SIGKILL');
    await this.ended;
  }

  /** To all that belongs to it. */
  signal(name: NodeJS.Signals): void {
    try {
      if (this.#child.pid !== undefined) process.kill(-this.#child.pid, name);
    } catch {
      // It has ended.
    }
  }
}

class InsideWorker extends RunningWorker {
  readonly title = 'worker inside the test';
  readonly output = '';
  readonly #client: { shutdown(): unknown };
  #stopped = false;

  constructor(client: { shutdown(): unknown }) {
    super();
    this.#client = client;
  }

  async stop(): Promise<number> {
    if (!this.#stopped) {
      this.#stopped = true;
      await this.#client.shutdown();
    }
    return 0;
  }

  async kill(): Promise<void> {
    await this.stop();
  }
}

export function startProcess(target: string | readonly string[]): Start {
  return async (engine, { functions, env, cwd = process.cwd(), places = [cwd], within }, started) => {
    const [program = '', ...rest] = commandOf(target, places);
    const command = [program, ...rest].join(' ');
    const before = await engine.functions();
    const child = spawn(program, rest, {
      cwd,
      env: { ...process.env, OTEL_ENABLED: 'false', PYTHONUNBUFFERED: '1', ...engine.environment, ...env },
      stdio: ['ignore', 'pipe', 'pipe'],
      detached: true,
    });
    const worker = new ProcessWorker(child, command);
    started(worker);
    const given = new AbortController();
    const early = worker.ended.then((code) => {
      throw worker.error ?? failed(`${command} ended with ${String(child.signalCode ?? code)}`, worker);
    });
    early.catch(() => undefined);
    if (child.pid === undefined) return early;
    const ready = engine
      .ready({
        name: command,
        pid: child.pid,
        before,
        signal: given.signal,
        ...(functions && { functions }),
        ...(within !== undefined && { within }),
      })
      .catch(async (error: Error) => {
        // What it wrote says more than that it has ended.
        if (error.message.endsWith(' ended.')) await early;
        throw failed(error.message, worker);
      });
    ready.catch(() => undefined);
    try {
      worker.functions = await Promise.race([ready, early]);
    } catch (error) {
      given.abort();
      worker.signal('SIGKILL');
      throw error;
    }
    return worker;
  };
}

export function startInside(register: Register): Start {
  return async (engine, { functions, within }, started) => {
    const before = new Set(await engine.functions());
    const name = register.name || 'worker';
    process.env.OTEL_ENABLED ??= 'false';
    const client = await connect(engine.url, name);
    const worker = new InsideWorker(client);
    started(worker);
    await register(client);
    if (functions) {
      worker.functions = await engine.ready({ name, functions, ...(within !== undefined && { within }) });
    } else {
      // Messages keep their order: once this is answered, everything before it was taken.
      await client.trigger({ function_id: 'engine::functions::list', payload: {} });
      worker.functions = (await engine.functions()).filter((id) => !before.has(id));
    }
    return worker;
  };
}

interface Client {
  shutdown(): unknown;
  trigger(request: { function_id: string; payload: object }): Promise<unknown>;
}

async function connect(url: string, workerName: string): Promise<Client> {
  // A name of its own: it is no dependency.
  const sdk = 'iii-sdk';
  let found: { registerWorker(url: string, options: object): Client };
  try {
    found = (await import(sdk)) as typeof found;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ERR_MODULE_NOT_FOUND') throw error;
    throw new Error(
      'A function registers through the Node SDK, which is not installed here: npm install iii-sdk, ' +
        'or start the worker as a program.',
    );
  }
  return found.registerWorker(url, { workerName, otel: { enabled: false } });
}

function commandOf(target: string | readonly string[], places: readonly string[]): string[] {
  if (typeof target !== 'string') return [...target];
  for (const place of places) {
    const path = isAbsolute(target) ? target : join(place, target);
    if (!existsSync(path)) continue;
    if (statSync(path).isFile()) return [...(RUNNERS[extname(path)] ?? []), path];
    if (existsSync(join(path, 'Cargo.toml')))
      return ['cargo', 'run', '--quiet', '--manifest-path', join(path, 'Cargo.toml')];
  }
  const words = target.split(/\s+/).filter(Boolean);
  if (words.length === 1 && RUNNERS[extname(target)]) {
    throw new Error(`There is no worker ${target} in ${[...new Set(places)].join(', ')}.`);
  }
  return words;
}

function failed(what: string, worker: RunningWorker): AssertionError {
  const text = what.replace(/\.$/, '');
  return new AssertionError({
    message: `${text}.\n--- its output ---\n${worker.output.trimEnd() || '(nothing)'}`,
  });
}
