// Says what it started, and never ends.
import { startEngine } from 'iii-skill-test';

const engine = await startEngine();
await engine.worker(['sh', '-c', 'echo $$; exec "$0" shop.mjs', process.execPath]).then((worker) => {
  console.log(JSON.stringify({ worker: parseInt(worker.output), url: engine.url }));
});
setInterval(() => {}, 1000);
