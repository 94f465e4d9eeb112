// The first worker of a traced chain: an HTTP route that calls a function of another worker.
import { registerWorker } from 'iii-sdk'

const worker = registerWorker(process.env.III_URL, { workerName: process.env.SDK_WORKER })
worker.registerFunction('chain::order', async (request) => ({
  status_code: 200,
  body: await worker.trigger({ function_id: 'chain::store', payload: request.body }),
}))
worker.registerTrigger({ type: 'http', function_id: 'chain::order', config: { api_path: '/order', http_method: 'POST' } })
console.log(JSON.stringify({ registered: true }))
process.once('SIGTERM', async () => {
  await worker.shutdown()
  process.exit(0)
})
