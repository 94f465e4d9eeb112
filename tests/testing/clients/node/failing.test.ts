/** Fails, to show what a failure shows. */
import { test } from 'iii-skill-test/vitest';

test('wrong', async ({ iiiEngine, iiiWorker }) => {
  await iiiWorker([process.execPath, '-e', 'console.log("I am here"); setInterval(() => {}, 1000)'], {
    functions: [],
  });
  await iiiEngine.state.set('shop', 'chair', 1);
  while (!(await iiiEngine.report()).includes('I am here'));
  await iiiEngine.events.expect({ scope: 'shop', key: 'table', within: 0.1 });
});
