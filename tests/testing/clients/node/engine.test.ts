/** Every verb of iii-skill-test against real workers of the real SDK. */
import { AssertionError } from 'node:assert';
import { expect } from 'vitest';
import { EngineError, startEngine } from 'iii-skill-test';
import { test } from 'iii-skill-test/vitest';

test('a worker sells, and what it does is seen', async ({ iiiEngine, iiiWorker }) => {
  const worker = await iiiWorker('shop.mjs');
  expect(worker.functions).toEqual(['shop::reorder', 'shop::sell']);
  await iiiEngine.state.set('shop', 'chair', { stock: 1 });
  await iiiEngine.http.post('/sell', { id: 'chair' }).expect(201, { stock: 0 });
  const event = await iiiEngine.events.expect({
    scope: 'shop',
    key: 'chair',
    type: 'state:updated',
  });
  expect([event.oldValue, event.newValue]).toEqual([{ stock: 1 }, { stock: 0 }]);
  await iiiEngine.settle();
  expect(await iiiEngine.state.list('orders')).toEqual({
    chair: { ordered: 1 },
  });
  const call = await iiiEngine.calls.expect('shop::reorder');
  expect((call.payload as { key: string }).key).toBe('chair');
});

test('a lost answer was a write all the same', async ({ iiiEngine, iiiWorker }) => {
  await iiiWorker('shop.mjs');
  await iiiEngine.state.set('shop', 'chair', { stock: 3 });
  const fault = await iiiEngine.faults.loseReply('state::update');
  await iiiEngine.http.post('/sell', { id: 'chair' }).expect(500);
  expect(await fault.hits()).toBe(1);
  expect(await iiiEngine.state.get('shop', 'chair')).toEqual({ stock: 2 });
  const [lost] = await iiiEngine.calls.of('state::update');
  expect(lost?.fault).toBe('lose_reply state::update');
});

test('a worker comes back after a restart', async ({ iiiEngine, iiiWorker }) => {
  await iiiWorker('shop.mjs');
  await iiiEngine.state.set('shop', 'chair', { stock: 3 });
  await iiiEngine.faults.restart();
  await iiiEngine.ready({ functions: ['shop::sell', 'shop::reorder'] });
  await iiiEngine.settle();
  await iiiEngine.http.post('/sell', { id: 'chair' }).expect(201, { stock: 2 });
});

test('connections break on demand', async ({ iiiEngine, iiiWorker }) => {
  await iiiWorker('shop.mjs');
  expect(await iiiEngine.faults.dropConnection()).toBe(1);
  await iiiEngine.calls.expect('engine::workers::register', { count: 2 });
  const fault = await iiiEngine.faults.dropConnection('state::update');
  await iiiEngine.http.post('/sell', { id: 'chair' }).expect(500);
  expect(await fault.hits()).toBe(1);
});

test('a function registers through the SDK', async ({ iiiEngine, iiiWorker }) => {
  const worker = await iiiWorker((iii) => {
    iii.registerFunction('sum::add', async ({ a, b }: { a: number; b: number }) => ({ sum: a + b }));
  });
  expect(worker.functions).toEqual(['sum::add']);
  expect(await iiiEngine.call('sum::add', { a: 1, b: 2 })).toEqual({ sum: 3 });
  expect(await iiiEngine.functions()).toEqual(['sum::add']);
});

test('a call that fails has a code', async ({ iiiEngine }) => {
  const failed = iiiEngine.call('no::such').catch((error: EngineError) => error);
  expect(await failed).toMatchObject({
    name: 'EngineError',
    code: 'function_not_found',
  });
});

test('digits are kept where JavaScript would lose them', async ({ iiiEngine }) => {
  const text = '{"big":9007199254740993,"one":1.0,"e":1E2}';
  await iiiEngine.state.setText('a', 'k', text);
  const kept = await iiiEngine.state.snapshot();
  expect(kept.text).toBe(`{"a":{"k":${text}}}`);
  await iiiEngine.state.set('a', 'k', 1);
  await iiiEngine.state.set('b', 'x', 2);
  await iiiEngine.state.restore(kept);
  expect(await iiiEngine.state.getText('a', 'k')).toBe(text);
  expect(await iiiEngine.state.scopes()).toEqual(['a']);
});

test('missing and null are two things', async ({ iiiEngine }) => {
  await iiiEngine.state.load({ a: { null: null, zero: 0 } });
  expect(await iiiEngine.state.get('a', 'null')).toBeNull();
  expect(await iiiEngine.state.get('a', 'none')).toBeUndefined();
  await iiiEngine.state.delete('a', 'zero');
  expect(await iiiEngine.state.list('a')).toEqual({ null: null });
  expect(() => iiiEngine.state.set('a', 'k', undefined as unknown as null)).toThrow(TypeError);
  await iiiEngine.state.restore({ c: { y: [1] } });
  expect((await iiiEngine.state.snapshot()).contents).toEqual({
    c: { y: [1] },
  });
});

test('an event is found by any condition, and waited for', async ({ iiiEngine }) => {
  const later = iiiEngine.events.expect({
    scope: 'a',
    where: (event) => event.newValue === 3,
  });
  for (const value of [1, 2, 3]) await iiiEngine.state.set('a', 'k', value);
  expect((await later).oldValue).toBe(2);
  const first = await iiiEngine.events.expect({ value: 1 });
  expect('oldValue' in first).toBe(false);
  const next = await iiiEngine.events.expect({ scope: 'a', after: first });
  expect(next.newValue).toBe(2);
  expect((await iiiEngine.events.all()).map((event) => event.newValue)).toEqual([1, 2, 3]);
});

test('what does not come says what did', async ({ iiiEngine }) => {
  await iiiEngine.state.set('shop', 'chair', 3);
  const missing = iiiEngine.events.expect({
    scope: 'shop',
    key: 'table',
    within: 0.01,
  });
  await expect(missing).rejects.toThrow(/shop \/ chair {2}null -> 3/);
  await expect(missing).rejects.toBeInstanceOf(AssertionError);
  const never = iiiEngine.events.expect({ where: () => false, within: 0.05 });
  await expect(never).rejects.toThrow(AssertionError);
  await expect(iiiEngine.calls.expect('mail::send', { within: 0 })).rejects.toThrow(/0 of 1 answered/);
  const call = iiiEngine.http.get('/nowhere').expect(200);
  await expect(call).rejects.toThrow(/GET \/nowhere answered 404, expected 200/);
});

test('faults strike as often as they say', async ({ iiiEngine }) => {
  const get = () =>
    iiiEngine.call('state::get', { scope: 'a', key: 'k' }).then(
      () => 'fine',
      (error: EngineError) => error.code,
    );
  const fault = await iiiEngine.faults.fail('state::*', {
    code: 'busy',
    times: 2,
  });
  expect([await get(), await get(), await get()]).toEqual(['busy', 'busy', 'fine']);
  expect(await fault.hits()).toBe(2);
  const other = await iiiEngine.faults.fail('state::get', { times: 100 });
  await other.stop();
  expect(await get()).toBe('fine');
  await iiiEngine.faults.fail('state::get', { times: 100 });
  await iiiEngine.faults.clear();
  expect(await get()).toBe('fine');
  await expect(iiiEngine.faults.fail('x', { times: 0 })).rejects.toThrow(/at least once/);
  await expect(iiiEngine.faults.add('nonsense', {})).rejects.toThrow(/There is no verb 'faults\/nonsense'/);
});

test('stores fail and slow down', async ({ iiiEngine }) => {
  const set = (value: number) => iiiEngine.call('state::set', { scope: 'a', key: 'k', value });
  const slow = await iiiEngine.faults.slowStore(0.05, 'state::set');
  await set(1);
  expect((await iiiEngine.calls.expect('state::set')).seconds).toBeGreaterThanOrEqual(0.05);
  expect(await slow.hits()).toBe(1);
  const full = await iiiEngine.faults.diskFull('state::set');
  await expect(set(2)).rejects.toThrow(EngineError);
  expect(await full.hits()).toBe(1);
  await set(3);
  await iiiEngine.events.expect({ value: 3 });
  const get = (within: number) => iiiEngine.call('state::get', { scope: 'a', key: 'k' }, { within });
  const delayed = await iiiEngine.faults.delay('state::get', 600, { times: 2 });
  await expect(get(0.1)).rejects.toThrow(/timed out/);
  const lost = expect(get(50)).rejects.toThrow(EngineError);
  while ((await delayed.hits()) === 1);
  await expect(iiiEngine.settle({ within: 0.05 })).rejects.toThrow(/state::get/);
  await iiiEngine.faults.restart();
  await lost;
});

test('the clock makes a schedule due', async ({ iiiEngine, iiiWorker }) => {
  await iiiWorker((iii) => {
    iii.registerFunction('nightly::run', async () => ({}));
    iii.registerTrigger({
      type: 'cron',
      function_id: 'nightly::run',
      config: { expression: '0 0 3 * * *' },
    });
  });
  const before = await iiiEngine.clock.now();
  await iiiEngine.clock.advance(24 * 3600);
  await iiiEngine.calls.expect('nightly::run');
  expect((await iiiEngine.clock.now()) - before).toBeGreaterThanOrEqual(24 * 3600);
});

test('the transcript has a line for all that happened', async ({ iiiEngine }) => {
  await iiiEngine.state.set('a', 'k', 1);
  const lines = (await iiiEngine.transcript()).trim().split('\n');
  expect(lines.map((line) => (JSON.parse(line) as { what: string }).what)).toEqual(['event']);
  expect(await iiiEngine.report()).toContain('state:created  a / k  null -> 1');
});

test('a worker that ends says what it wrote', async ({ iiiWorker }) => {
  const broken = iiiWorker([process.execPath, '-e', 'console.log("about to fail"); process.exit(3)']);
  await expect(broken).rejects.toThrow(/ended with 3\.\n--- its output ---\nabout to fail/);
  await expect(iiiWorker('nosuch.mjs')).rejects.toThrow(/There is no worker nosuch\.mjs in /);
  await expect(iiiWorker(['/no/such/program'])).rejects.toThrow(/ENOENT/);
  const silent = [process.execPath, '-e', 'console.log("I wait"); setInterval(() => {}, 1000)'];
  for (let within = 0.5, said = ''; !said.includes('I wait'); within *= 2) {
    // Until it has had the time to write.
    said = await iiiWorker(silent, { within }).then(String, (error: Error) => error.message);
    expect(said).toContain(`did not register any function within ${within} s`);
  }
});

test('a killed worker is gone, and what it started with it', async ({ iiiWorker }) => {
  const worker = await iiiWorker(['sh', '-c', '"$0" shop.mjs & echo "child $!"; wait', process.execPath]);
  const child = Number(worker.output.split('child ')[1]);
  await worker.kill();
  expect(worker.title).toMatch(/ended with SIGKILL$/);
  await expect.poll(() => alive(child), { timeout: 20_000 }).toBe(false);
});

function alive(pid: number): boolean {
  try {
    return process.kill(pid, 0);
  } catch {
    return false;
  }
}

test.concurrent('engines of tests that run at once know nothing of each other', async () => {
  const engines = await Promise.all(Array.from({ length: 20 }, () => startEngine()));
  await Promise.all(engines.map((engine, at) => engine.state.set('a', 'k', at)));
  const found = await Promise.all(engines.map((engine) => engine.state.get('a', 'k')));
  expect(found).toEqual(engines.map((_, at) => at));
  await Promise.all(engines.map((engine) => engine.close()));
  await expect(engines[0]?.state.get('a', 'k')).rejects.toThrow(/There is no engine/);
});

test('a value of many megabytes comes and goes', async ({ iiiEngine }) => {
  const value = 'x'.repeat(20_000_000);
  await iiiEngine.state.set('a', 'k', value);
  expect((await iiiEngine.state.get<string>('a', 'k'))?.length).toBe(value.length);
});

test.override({ iiiOptions: { adapter: 'file' } });

test('the same on files', async ({ iiiEngine }) => {
  expect((await iiiEngine.state.snapshot()).text).toBe('{}');
  await iiiEngine.state.set('a', 'k', 1);
  await iiiEngine.faults.restart();
  expect(await iiiEngine.state.get('a', 'k')).toBe(1);
});

test('an engine that cannot be opened says why', async () => {
  await expect(startEngine({ adapter: 'nosuch' })).rejects.toThrow(/nosuch/);
  await expect(startEngine({ config: '/no/such/iii-config.yaml' })).rejects.toThrow(/iii-config\.yaml/);
});
