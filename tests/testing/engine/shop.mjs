// A worker that sells, and orders again what is sold out.
import { registerWorker } from 'iii-sdk'

const worker = registerWorker(process.env.III_URL, { workerName: 'shop' })
const add = (scope, key, path, by) =>
  worker.trigger({
    function_id: 'state::update',
    payload: { scope, key, ops: [{ type: 'increment', path, by }] },
  })

worker.registerFunction('shop::sell', async (request) => {
  const done = await add('shop', request.body.id, 'stock', -1)
  return { status_code: 201, body: done.new_value }
})
worker.registerFunction('shop::reorder', async (event) => {
  if (event.new_value.stock === 0) await add('orders', event.key, 'ordered', 1)
  return {}
})
worker.registerTrigger({
  type: 'http',
  function_id: 'shop::sell',
  config: { api_path: '/sell', http_method: 'POST' },
})
worker.registerTrigger({ type: 'state', function_id: 'shop::reorder', config: { scope: 'shop' } })
for (const signal of ['SIGINT', 'SIGTERM']) process.on(signal, () => process.exit(0))
