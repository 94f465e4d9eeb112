import { registerWorker } from 'iii-sdk'

const iii = registerWorker(process.env.III_URL ?? 'ws://127.0.0.1:49134')
const scope = 'chat::rooms'
const KEEP = 50
const cuts = new Map()

const state = async (name, payload) => {
  const answer = await iii.trigger({ function_id: `state::${name}`, payload, timeoutMs: 5000 })
  if (name === 'update' && answer.errors?.length) throw new Error(answer.errors[0].message)
  return answer
}
const bad = (message) => ({ status_code: 400, body: { error: message } })

function withRoom(handler) {
  return async (req) => {
    let room
    try {
      room = decodeURIComponent(req.path_params.room)
    } catch {
      return bad('the room is no UTF-8')
    }
    return handler(room, req)
  }
}

async function cut(key) {
  const until = Date.now() + 10_000
  while (Date.now() < until) {
    const expected = await state('get', { scope, key })
    if (expected == null || expected.messages.length <= KEEP) return
    const value = { ...expected, messages: expected.messages.slice(-KEEP) }
    const { swapped } = await state('compare-and-set', { scope, key, expected, value })
    if (swapped) return
  }
}

async function post(room, req) {
  const { author, text } = req.body ?? {}
  if (typeof author !== 'string' || typeof text !== 'string') return bad('author and text are texts')
  while (cuts.has(room)) await cuts.get(room)
  const ops = [
    { type: 'increment', path: 'last', by: 1 },
    { type: 'append', path: 'messages', value: { author, text } },
  ]
  const { new_value: value } = await state('update', { scope, key: room, ops })
  if (value.messages.length >= 2 * KEEP && !cuts.has(room)) {
    cuts.set(room, cut(room).catch(() => {}).finally(() => cuts.delete(room)))
  }
  return { status_code: 201, body: { n: value.last } }
}

async function read(room, req) {
  const given = req.query_params?.after ?? '0'
  if (!/^\d{1,15}$/.test(given)) return bad('after is a whole number from 0')
  const value = (await state('get', { scope, key: room })) ?? { last: 0, messages: [] }
  const kept = value.messages.slice(-KEEP)
  const before = value.last - kept.length
  const numbered = kept.map((message, place) => ({ n: before + place + 1, ...message }))
  const messages = numbered.filter(({ n }) => n > Number(given))
  return { status_code: 200, body: { last: value.last, messages } }
}

for (const [id, handler, http_method] of [['chat::post', post, 'POST'], ['chat::read', read, 'GET']]) {
  iii.registerFunction(id, withRoom(handler))
  iii.registerTrigger({ type: 'http', function_id: id, config: { api_path: '/rooms/:room/messages', http_method } })
}

for (const name of ['SIGINT', 'SIGTERM']) {
  process.once(name, async () => {
    await iii.shutdown()
    process.exit(0)
  })
}
