import { registerWorker } from 'iii-sdk'

const iii = registerWorker(process.env.III_URL ?? 'ws://127.0.0.1:49134')
const state = (name, payload) => iii.trigger({ function_id: `state::${name}`, payload })
const scope = 'site::hits'

async function add({ page, by = 1 }) {
  const ops = [{ type: 'increment', path: 'count', by }]
  const answer = await state('update', { scope, key: page, ops })
  return { page, count: answer.new_value.count }
}

async function get({ page }) {
  const found = await state('get', { scope, key: page })
  return { page, count: found == null ? 0 : found.count }
}

async function addOverHttp(req) {
  const page = decodeURIComponent(req.path_params.page)
  return { status_code: 200, body: await add({ page, by: req.body?.by }) }
}

iii.registerFunction('hits::add', add)
iii.registerFunction('hits::get', get)
iii.registerFunction('hits::add-http', addOverHttp)
iii.registerTrigger({
  type: 'http',
  function_id: 'hits::add-http',
  config: { api_path: '/hits/:page', http_method: 'POST' },
})

for (const name of ['SIGINT', 'SIGTERM']) {
  process.once(name, async () => {
    await iii.shutdown()
    process.exit(0)
  })
}
