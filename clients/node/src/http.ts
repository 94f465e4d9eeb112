/** Http: requests to the routes of workers, and what must come back. */
import { AssertionError, deepStrictEqual } from 'node:assert';
import { type Answer, request } from './request.js';

const SHOWN = 2000;

export interface RequestOptions {
  /** A JSON body. */
  json?: unknown;
  /** A body as it is. */
  body?: string | Uint8Array;
  headers?: Record<string, string>;
  /** Seconds of silence after which it fails (30). */
  within?: number;
}

export class Reply {
  readonly request: string;
  readonly status: number;
  /** By name in lower case. */
  readonly headers: Record<string, string>;
  readonly body: Buffer;

  constructor(asked: string, answer: Answer) {
    this.request = asked;
    this.status = answer.status;
    this.headers = answer.headers;
    this.body = answer.body;
  }

  get text(): string {
    return this.body.toString();
  }

  /** The decoded body. */
  json<T = unknown>(): T {
    return JSON.parse(this.text) as T;
  }

  /** This reply, when status and body are as expected; else an AssertionError with all of it. */
  expect(status: number, json?: unknown): this {
    const said = this.text.slice(0, SHOWN);
    if (this.status !== status) {
      const message = `${this.request} answered ${this.status}, expected ${status}: ${said}`;
      throw new AssertionError({ message, actual: this.status, expected: status, operator: 'strictEqual' });
    }
    if (json !== undefined) deepStrictEqual(this.json(), json);
    return this;
  }
}

/** A reply on its way: `await engine.http.post('/x', {}).expect(200)`. */
export class Pending implements PromiseLike<Reply> {
  readonly #reply: Promise<Reply>;

  constructor(reply: Promise<Reply>) {
    this.#reply = reply;
  }

  then<A = Reply, B = never>(
    done?: ((reply: Reply) => A | PromiseLike<A>) | null,
    failed?: ((reason: unknown) => B | PromiseLike<B>) | null,
  ): Promise<A | B> {
    return this.#reply.then(done, failed);
  }

  /** The reply, when status and body are as expected; else an AssertionError with all of it. */
  async expect(status: number, json?: unknown): Promise<Reply> {
    return (await this.#reply).expect(status, json);
  }
}

/** Each request has a connection of its own. */
export class Http {
  readonly #url: () => string;

  constructor(url: () => string) {
    this.#url = url;
  }

  /** Send a request; any status is an answer. */
  request(
    method: string,
    path: string,
    { json, body, headers = {}, within = 30 }: RequestOptions = {},
  ): Pending {
    const named = Object.fromEntries(
      Object.entries(headers).map(([name, value]) => [name.toLowerCase(), value]),
    );
    const content = json === undefined ? body : JSON.stringify(json);
    if (json !== undefined) named['content-type'] ??= 'application/json';
    const sent = { method, headers: named, within, ...(content !== undefined && { body: content }) };
    const answer = (async () => new Reply(`${method} ${path}`, await request(this.#url() + path, sent)))();
    return new Pending(answer);
  }

  get(path: string, options?: RequestOptions): Pending {
    return this.request('GET', path, options);
  }

  post(path: string, json?: unknown, options?: RequestOptions): Pending {
    return this.request('POST', path, { json, ...options });
  }

  put(path: string, json?: unknown, options?: RequestOptions): Pending {
    return this.request('PUT', path, { json, ...options });
  }

  patch(path: string, json?: unknown, options?: RequestOptions): Pending {
    return this.request('PATCH', path, { json, ...options });
  }

  delete(path: string, options?: RequestOptions): Pending {
    return this.request('DELETE', path, options);
  }
}
