/** Faults: what goes wrong on demand. */
import type { AskJson } from './engine.js';

/** A fault strikes once unless one of these is given; with a probability, `seed` makes it repeatable. */
export interface Often {
  times?: number;
  probability?: number;
  seed?: number;
  /** So many first calls are spared. */
  skip?: number;
}

export class Fault {
  readonly #ask: AskJson;
  readonly #number: number;

  constructor(ask: AskJson, number: number) {
    this.#ask = ask;
    this.#number = number;
  }

  /** How many calls it has struck. */
  hits(): Promise<number> {
    return this.#ask('fault/hits', { fault: this.#number });
  }

  /** Strike no more. */
  stop(): Promise<void> {
    return this.#ask('fault/stop', { fault: this.#number });
  }
}

/** Makes things go wrong, by function: an id or a pattern (`state::*`). What the test does is spared. */
export class Faults {
  readonly #ask: AskJson;

  constructor(ask: AskJson) {
    this.#ask = ask;
  }

  /** The call is not made; its caller gets this error. */
  fail(functionId: string, options: Often & { code?: string; message?: string } = {}): Promise<Fault> {
    return this.add('fail', { function: functionId, ...options });
  }

  /** The call is made so many seconds later; calls after it are not held up. */
  delay(functionId: string, seconds: number, options: Often = {}): Promise<Fault> {
    return this.add('delay', { function: functionId, seconds, ...options });
  }

  /**
   * The call is made and its answer is lost: the caller gets the error `code` (`TIMEOUT`); with null it
   * hears nothing.
   */
  loseReply(functionId: string, options: Often & { code?: string | null } = {}): Promise<Fault> {
    return this.add('lose_reply', { function: functionId, ...options });
  }

  /** The call is made, then the connection of its caller breaks. */
  dropConnection(functionId: string, options?: Often): Promise<Fault>;
  /** The connections of all workers (or of those with this name) break now; gives how many. */
  dropConnection(options?: { worker?: string }): Promise<number>;
  dropConnection(first?: string | { worker?: string }, options: Often = {}): Promise<Fault | number> {
    if (typeof first === 'string') return this.add('drop_connection', { function: first, ...options });
    return this.#ask('faults/drop_connection', { ...first });
  }

  /** As soon as such a call was made, the engine ends and starts again with the same ports and data. */
  restart(functionId: string, options?: Pick<Often, 'times' | 'skip'>): Promise<Fault>;
  /** The same now; it is up again when this ends, workers come a little later. */
  restart(): Promise<void>;
  async restart(functionId?: string, options: Pick<Often, 'times' | 'skip'> = {}): Promise<Fault | void> {
    if (functionId !== undefined) return this.add('restart', { function: functionId, ...options });
    await this.#ask('faults/restart', {});
  }

  /** The write is refused as on a full disk; a store of this engine alone stops, and the engine restarts. */
  diskFull(functionId = 'state::*', options: Often = {}): Promise<Fault> {
    return this.add('disk_full', { function: functionId, ...options });
  }

  /** The call is made and answered so many seconds later; calls for the same key wait behind it. */
  slowStore(seconds: number, functionId = 'state::*', options: Often = {}): Promise<Fault> {
    return this.add('slow_store', { function: functionId, seconds, ...options });
  }

  /** Any fault that the host knows, by its name and arguments in the control protocol. */
  async add(kind: string, asked: object): Promise<Fault> {
    const { fault } = await this.#ask<{ fault: number }>(`faults/${kind}`, asked);
    return new Fault(this.#ask, fault);
  }

  /** Nothing goes wrong any more. */
  clear(): Promise<void> {
    return this.#ask('faults/clear', {});
  }
}
