// A worker of the SDK matrix: it does what the test asks over HTTP and prints what happens as JSON lines.
import * as sdk from 'iii-sdk'

const start = sdk.registerWorker ?? sdk.init
const otel = process.env.OTEL_ENABLED === 'false' ? { otel: { enabled: false } } : {}
const worker = start(process.env.III_URL, { workerName: process.env.SDK_WORKER, ...otel })
// Up to 0.3 a call takes its parts, later one object.
const trigger = (function_id, payload) =>
  sdk.registerWorker ? worker.trigger({ function_id, payload }) : worker.trigger(function_id, payload)
const show = (line) => console.log(JSON.stringify(line))

// 0.9 and older take `{ id }`, later versions the id alone.
const register = (id, handler) => {
  try {
    return worker.registerFunction(id, handler)
  } catch {
    return worker.registerFunction({ id }, handler)
  }
}

register('sdk::call', async (request) => {
  const { function_id, payload } = request.body
  try {
    return { status_code: 200, body: { result: await trigger(function_id, payload) } }
  } catch (error) {
    return { status_code: 200, body: { error: error?.code ?? String(error) } }
  }
})
register('sdk::fail', async () => {
  throw new Error('broken on purpose')
})
register('sdk::changed', async (event) => {
  show({ event })
  return {}
})
for (const [type, function_id, config] of [
  ['http', 'sdk::call', { api_path: '/call', http_method: 'POST' }],
  ['http', 'sdk::fail', { api_path: '/fail', http_method: 'POST' }],
  ['state', 'sdk::changed', { scope: 'watched' }],
]) {
  worker.registerTrigger({ type, function_id, config })
}
show({ registered: true })
for (const number of ['SIGINT', 'SIGTERM']) {
  process.once(number, async () => {
    await worker.shutdown?.()
    process.exit(0)
  })
}
