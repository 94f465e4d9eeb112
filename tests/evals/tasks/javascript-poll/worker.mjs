import { registerWorker } from 'iii-sdk'

const iii = registerWorker(process.env.III_URL ?? 'ws://127.0.0.1:49134')
const state = (name, payload) => iii.trigger({ function_id: `state::${name}`, payload, timeoutMs: 5000 })
const scope = 'polls::polls'
const votesOf = (id) => `polls::votes:${id}`

iii.registerFunction('polls::create', async ({ question, options }) => {
  const id = crypto.randomUUID()
  await state('set', { scope, key: id, value: { id, question, options } })
  return { id }
})

iii.registerFunction('polls::vote', async ({ id, voter, option }) => {
  const poll = await state('get', { scope, key: id })
  if (poll == null) return { error: 'NOT_FOUND' }
  if (!poll.options.includes(option)) return { error: 'NO_SUCH_OPTION' }
  await state('set', { scope: votesOf(id), key: voter, value: { voter, option } })
  return { voted: true }
})

async function result({ id }) {
  const poll = await state('get', { scope, key: id })
  if (poll == null) return { error: 'NOT_FOUND' }
  const votes = await state('list', { scope: votesOf(id) })
  const counts = new Map(poll.options.map((option) => [option, 0]))
  for (const { option } of votes) counts.set(option, counts.get(option) + 1)
  return {
    question: poll.question,
    voters: votes.length,
    votes: [...counts].map(([option, count]) => ({ option, count })),
  }
}

iii.registerFunction('polls::result', result)
iii.registerFunction('polls::page', async (req) => {
  const body = await result({ id: decodeURIComponent(req.path_params.id) })
  return { status_code: body.error ? 404 : 200, body }
})
iii.registerTrigger({
  type: 'http',
  function_id: 'polls::page',
  config: { api_path: '/polls/:id', http_method: 'GET' },
})

for (const name of ['SIGINT', 'SIGTERM']) {
  process.once(name, async () => {
    await iii.shutdown()
    process.exit(0)
  })
}
