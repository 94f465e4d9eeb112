// A worker that reads a raw HTTP body as a stream and answers with a stream, by the SDK's own helper.
import * as sdk from 'iii-sdk'

const { http } = sdk.http ? sdk : await import('@iii-dev/helpers/http')
const worker = sdk.registerWorker(process.env.III_URL, { workerName: 'stream', otel: { enabled: false } })
const register = (id, handler) => {
  try {
    return worker.registerFunction(id, handler)
  } catch {
    return worker.registerFunction({ id }, handler)
  }
}

register(
  'sdk::shout',
  http(async (request, response) => {
    response.status(207)
    response.headers({ 'content-type': 'text/plain', 'x-from': 'stream' })
    for await (const piece of request.request_body.stream) {
      response.stream.write(Buffer.from(String(piece).toUpperCase()))
    }
    response.stream.end()
  }),
)
worker.registerTrigger({ type: 'http', function_id: 'sdk::shout', config: { api_path: '/shout', http_method: 'POST' } })
process.once('SIGTERM', () => process.exit(0))
