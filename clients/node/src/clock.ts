/** The engine's time, by which schedules, retries and expiries go; it only moves forward. */
import type { AskJson } from './engine.js';

export class Clock {
  readonly #ask: AskJson;

  constructor(ask: AskJson) {
    this.#ask = ask;
  }

  /** Seconds since 1970. */
  now(): Promise<number> {
    return this.#ask('clock/now', {});
  }

  /**
   * Move it forward by so many seconds; what is due by then has begun when this ends.
   * A schedule whose handler still runs misses the moment: settle before.
   */
  advance(seconds: number): Promise<void> {
    return this.#ask('clock/advance', { seconds });
  }
}
