/** The control port of a host: every request is a POST of JSON, values pass as they are. */
import { AssertionError } from 'node:assert';
import { Agent } from 'node:http';
import { setTimeout as sleep } from 'node:timers/promises';
import { request } from './request.js';

const BEFORE = '{"result":';

/** So long after a request has failed the end of the host is noticed at the latest. */
const LOST_MS = 500;
/** What was expected did not come true: a failed test, not a failed request. */
const UNMET = new Set(['NOT_FULFILLED', 'NOT_SETTLED', 'WORKER_FAILED']);

/** A call or a request that failed, with its code. */
export class EngineError extends Error {
  override name = 'EngineError';

  constructor(
    readonly code: string,
    message: string,
  ) {
    super(message);
  }
}

export class Control {
  /** Gives why it answers no more, once its host has ended. */
  lost: Promise<string> | undefined;
  // Shorter than the host keeps a connection: it never closes one that is about to be used.
  readonly #agent = new Agent({ keepAlive: true, timeout: 30_000 });

  constructor(
    readonly url: string,
    readonly token: string,
  ) {}

  /** The result as encoded JSON; undefined where there is none. `asked` is encoded JSON. */
  async askText(path: string, asked: string, signal?: AbortSignal): Promise<string | undefined> {
    const headers = { authorization: `Bearer ${this.token}`, 'content-type': 'application/json' };
    const options = { method: 'POST', headers, body: asked, agent: this.#agent, signal };
    const { status, body } = await request(`${this.url}/engines${path}`, options).catch(
      async (error: Error) => {
        if (signal?.aborted) throw error;
        const silent = sleep(LOST_MS, `the host of the engines does not answer: ${error.message}`);
        throw new EngineError('ENGINE_LOST', await Promise.race([this.lost ?? silent, silent]));
      },
    );
    const text = body.toString();
    if (status === 200) return text.startsWith(BEFORE) ? text.slice(BEFORE.length, -1) : undefined;
    const { error } = JSON.parse(text) as { error: { code: string; message: string } };
    throw UNMET.has(error.code) ? new AssertionError(error) : new EngineError(error.code, error.message);
  }

  /** The result; undefined where there is none. */
  async ask<T>(path: string, asked: object = {}, signal?: AbortSignal): Promise<T> {
    const text = await this.askText(path, JSON.stringify(asked), signal);
    return (text === undefined ? undefined : JSON.parse(text)) as T;
  }
}
