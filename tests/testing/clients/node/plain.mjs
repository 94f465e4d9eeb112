// Without a test runner: the engine ends with the block, the process by itself.
import { startEngine } from 'iii-skill-test';

const engine = await startEngine();
try {
  await engine.worker('shop.mjs');
  await engine.state.set('shop', 'chair', { stock: 2 });
  await engine.http.post('/sell', { id: 'chair' }).expect(201, { stock: 1 });
  console.log('sold');
} finally {
  await engine.close();
}
