/** What a process writes, of which the end is kept. */
import type { Readable } from 'node:stream';

const KEPT = 64 * 1024;

export class Output {
  #text = '';

  constructor(...streams: (Readable | null)[]) {
    for (const stream of streams) {
      stream?.setEncoding('utf8').on('data', (data: string) => {
        this.#text = (this.#text + data).slice(-KEPT);
      });
    }
  }

  /** At most the last 64 Ki characters. */
  get text(): string {
    return this.#text;
  }
}
