import { registerWorker } from 'iii-sdk'

const iii = registerWorker(process.env.III_URL ?? 'ws://127.0.0.1:49134')
const state = (name, payload) => iii.trigger({ function_id: `state::${name}`, payload })
const scope = 'app::cache'

const count = (path) =>
  state('update', { scope: 'app::cache-stats', key: 'all', ops: [{ type: 'increment', path, by: 1 }] })

iii.registerFunction('cache::get', async ({ key }) => {
  const found = await state('get', { scope, key })
  if (found != null) {
    await count('hits')
    return { key, value: found.value, hit: true }
  }
  const { value } = await iii.trigger({ function_id: 'slow::compute', payload: { key } })
  await state('set', { scope, key, value: { value } })
  await count('misses')
  return { key, value, hit: false }
})

iii.registerFunction('cache::forget', async ({ key }) => {
  const gone = await state('delete', { scope, key })
  return { forgotten: gone != null }
})

iii.registerFunction('cache::stats', async () => {
  const found = await state('get', { scope: 'app::cache-stats', key: 'all' })
  return { hits: found?.hits ?? 0, misses: found?.misses ?? 0 }
})

for (const name of ['SIGINT', 'SIGTERM']) {
  process.once(name, async () => {
    await iii.shutdown()
    process.exit(0)
  })
}
