/** Events: the changes of state since the engine was started, and waiting for one. */
import type { Json } from './json.js';
import type { AskJson } from './engine.js';

export interface StateEvent<T = Json> {
  /** Its place among all that happened in the engine. */
  number: number;
  /** Seconds since the engine was started. */
  at: number;
  scope: string;
  key: string;
  type: 'state:created' | 'state:updated' | 'state:deleted';
  /** Undefined where there was none. */
  oldValue?: T;
  /** Undefined where there is none any more. */
  newValue?: T;
}

/** Which events: what is left out is any. */
export interface EventFilter {
  scope?: string;
  key?: string;
  type?: StateEvent['type'];
  /** The new value. */
  value?: Json;
  /** An event that came before. */
  after?: StateEvent | number;
  where?: (event: StateEvent) => boolean;
}

type Row = Omit<StateEvent, 'oldValue' | 'newValue'> & { old_value?: Json; new_value?: Json };

export class Events {
  readonly #ask: AskJson;

  constructor(ask: AskJson) {
    this.#ask = ask;
  }

  /** Those that fit, in order. */
  async of({ where = () => true, ...filter }: EventFilter = {}): Promise<StateEvent[]> {
    return (await this.#ask<Row[]>('events/of', asked(filter))).map(event).filter(where);
  }

  /** All events so far. */
  all(): Promise<StateEvent[]> {
    return this.of();
  }

  /**
   * The first that fits since the engine was started; waits for it up to `within` seconds (5). An
   * AssertionError says what did happen.
   */
  async expect({
    where,
    within = 5,
    ...filter
  }: EventFilter & { within?: number } = {}): Promise<StateEvent> {
    const deadline = Date.now() + within * 1000;
    let { after } = filter;
    let left = within;
    for (;;) {
      const wanted = { ...asked({ ...filter, after }), within: left };
      const found = event(await this.#ask<Row>('events/expect', wanted));
      if (!where || where(found)) return found;
      after = found;
      left = Math.max(0, deadline - Date.now()) / 1000;
    }
  }
}

function asked({ after, ...filter }: { [Name in keyof EventFilter]: EventFilter[Name] | undefined }): object {
  return { ...filter, after: typeof after === 'object' ? after.number : after };
}

function event({ old_value: oldValue, new_value: newValue, ...row }: Row): StateEvent {
  return {
    ...row,
    ...(oldValue !== undefined && { oldValue }),
    ...(newValue !== undefined && { newValue }),
  };
}
