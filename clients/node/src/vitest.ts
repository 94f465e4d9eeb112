/** Fixtures of vitest: `iiiEngine`, a fresh engine for every test, and `iiiWorker`, which starts workers. */
import { dirname } from 'node:path';
import { test as base } from 'vitest';
import { type Engine, type EngineOptions, startEngine } from './engine.js';
import { control } from './host.js';
import type { Register, RunningWorker, WorkerOptions } from './worker.js';

// Its start does not count as time of the first test.
await control();

export interface Fixtures {
  /** What engines run; set it with `test.override({ iiiOptions: { adapter: 'file' } })`. */
  iiiOptions: EngineOptions;
  iiiEngine: Engine;
  /** Starts a worker; its file is looked for beside the test, then in the working directory. */
  iiiWorker: (
    target: string | readonly string[] | Register,
    options?: WorkerOptions,
  ) => Promise<RunningWorker>;
}

export const test = base.extend<Fixtures>({
  // vitest reads the names of what a fixture takes out of the pattern.
  // eslint-disable-next-line no-empty-pattern
  iiiOptions: async ({}, use) => use({}),
  iiiEngine: async ({ iiiOptions, task }, use) => {
    const engine = await startEngine(iiiOptions);
    try {
      await use(engine);
      const report = task.result?.state === 'fail' ? await engine.report() : '';
      if (report) console.error(report);
    } finally {
      await engine.close();
    }
  },
  iiiWorker: async ({ iiiEngine, task }, use) => {
    const places = [dirname(task.file.filepath), process.cwd()];
    await use((target, options = {}) =>
      iiiEngine.worker(target, {
        places: options.cwd === undefined ? places : [options.cwd, ...places],
        ...options,
      }),
    );
  },
});

export const it = test;
