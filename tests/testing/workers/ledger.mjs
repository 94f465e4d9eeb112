// The correct ledger, for Node; with an argument, one mistake of JavaScript.
import { registerWorker } from 'iii-sdk'

const iii = registerWorker(process.env.III_URL, { workerName: 'ledger' })
const state = (name, payload) => iii.trigger({ function_id: `state::${name}`, payload })
const accounts = {} // the mistake PlainObject: names of its prototype are there already

async function add(key, request) {
  if (process.argv[2] === 'PlainObject') {
    accounts[key] ??= { requests: {} }
    accounts[key].requests[request] = true
    await state('set', { scope: 'accounts', key, value: accounts[key] })
    return Object.keys(accounts[key].requests).length
  }
  const ops = [{ type: 'merge', path: 'requests', value: { [request]: true } }]
  const answer = await state('update', { scope: 'accounts', key, ops })
  if (answer.errors?.length) throw new Error(JSON.stringify(answer.errors))
  return Object.keys(answer.new_value.requests).length
}

const count = (value) => Object.keys(value.requests ?? {}).length

iii.registerFunction('ledger::add', async ({ body }) => {
  try {
    return { status_code: 200, body: { n: await add(body.key, body.request) } }
  } catch (error) {
    return { status_code: 503, body: { error: String(error) } }
  }
})
iii.registerFunction('ledger::read', async ({ body }) => {
  const value = await state('get', { scope: 'accounts', key: body.key })
  if (value === null || value === undefined) return { status_code: 404, body: { error: 'unknown' } }
  return { status_code: 200, body: { n: count(value) } }
})
iii.registerFunction('ledger::mirror', async ({ key, new_value: value }) => {
  if (value === null) await state('delete', { scope: 'mirror', key })
  else await state('set', { scope: 'mirror', key, value: { n: count(value) } })
  return {}
})
const route = (name) => ({ api_path: `/${name}`, http_method: 'POST' })
iii.registerTrigger({ type: 'http', function_id: 'ledger::add', config: route('add') })
iii.registerTrigger({ type: 'http', function_id: 'ledger::read', config: route('read') })
iii.registerTrigger({ type: 'state', function_id: 'ledger::mirror', config: { scope: 'accounts' } })
for (const signal of ['SIGINT', 'SIGTERM']) process.on(signal, () => process.exit(0))
