/** Calls: what was called in the engine, by whom, and what came of it. */
import type { Json } from './json.js';
import type { AskJson } from './engine.js';

export interface Call<P = Json, R = Json> {
  number: number;
  /** Seconds since the engine was started. */
  at: number;
  functionId: string;
  namespace?: string;
  /** The name of the worker that called; `the engine` for an HTTP request or an event. */
  caller: string;
  payload: P;
  answered: boolean;
  /** Undefined for an error, for nothing, and while it is not answered. */
  result?: R;
  error?: { code: string; message: string };
  seconds?: number;
  /** The fault that struck it. */
  fault?: string;
}

/** `payload` is compared with the whole payload. */
export interface CallFilter {
  payload?: Json;
}

type Row = Omit<Call, 'functionId'> & { function_id: string };

export class Calls {
  readonly #ask: AskJson;

  constructor(ask: AskJson) {
    this.#ask = ask;
  }

  /** Those of one function, or of all that fit a pattern (`state::*`). */
  async of(functionId: string, { payload }: CallFilter = {}): Promise<Call[]> {
    return (await this.#ask<Row[]>('calls/of', { function: functionId, payload })).map(call);
  }

  /** All but what SDKs ask the engine itself. */
  all(): Promise<Call[]> {
    return this.of('*');
  }

  /** The `count`-th call that fits, once it is answered; an AssertionError after `within` seconds (5). */
  async expect(
    functionId: string,
    { payload, count, within }: CallFilter & { count?: number; within?: number } = {},
  ): Promise<Call> {
    return call(await this.#ask<Row>('calls/expect', { function: functionId, payload, count, within }));
  }
}

function call({ function_id: functionId, ...row }: Row): Call {
  return { ...row, functionId };
}
