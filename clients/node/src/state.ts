/** State: what a test puts into an engine's state, and what it finds there. */
import { encoded, type Json, object } from './json.js';

/** Values by scope and key. */
export type Contents = Record<string, Record<string, Json>>;

/** Asks a verb of one engine. */
export type Ask = (verb: string, asked: string) => Promise<string | undefined>;

/** All that an engine held at one moment, exact to the byte. */
export class Snapshot {
  /** `text` is a JSON object of scopes, each an object of keys. */
  constructor(readonly text: string) {}

  /** As JavaScript sees it: digits beyond 2^53 are lost here, not in `text`. */
  get contents(): Contents {
    return JSON.parse(this.text) as Contents;
  }
}

/** Writes are those of any caller: they fire events and triggers. Faults spare them. */
export class State {
  readonly #ask: Ask;

  constructor(ask: Ask) {
    this.#ask = ask;
  }

  /** The value; undefined when there is none. */
  async get<T = Json>(scope: string, key: string): Promise<T | undefined> {
    const text = await this.getText(scope, key);
    return text === undefined ? undefined : (JSON.parse(text) as T);
  }

  /** The value as it is stored, byte for byte. */
  getText(scope: string, key: string): Promise<string | undefined> {
    return this.#ask('state/get', encoded({ scope, key }));
  }

  /** Store a value. */
  set(scope: string, key: string, value: Json): Promise<void> {
    return this.setText(scope, key, encoded(value));
  }

  /** Store encoded JSON as it is. */
  async setText(scope: string, key: string, text: string): Promise<void> {
    await this.#ask('state/set', object({ scope: encoded(scope), key: encoded(key), value: text }));
  }

  /** Remove a key, if it is there. */
  async delete(scope: string, key: string): Promise<void> {
    await this.#ask('state/delete', encoded({ scope, key }));
  }

  /** The values of a scope by key, in order of first insertion (keys that look like numbers come first). */
  async list<T = Json>(scope: string): Promise<Record<string, T>> {
    return JSON.parse((await this.#ask('state/list', encoded({ scope }))) ?? '{}') as Record<string, T>;
  }

  /** The scopes that hold a key. */
  async scopes(): Promise<string[]> {
    return JSON.parse((await this.#ask('state/scopes', '{}')) ?? '[]') as string[];
  }

  /** Store many values; others stay. */
  async load(contents: Contents): Promise<void> {
    await this.#ask('state/load', encoded({ contents }));
  }

  /** All that is there. */
  async snapshot(): Promise<Snapshot> {
    return new Snapshot((await this.#ask('state/snapshot', '{}')) ?? '{}');
  }

  /** Make it all as it was, or as in `contents`; only what differs is written. */
  async restore(contents: Snapshot | Contents): Promise<void> {
    const text = contents instanceof Snapshot ? contents.text : encoded(contents);
    await this.#ask('state/restore', object({ contents: text }));
  }
}
