import { registerWorker } from 'iii-sdk'

const iii = registerWorker(process.env.III_URL ?? 'ws://127.0.0.1:49134')
const state = (name, payload) => iii.trigger({ function_id: `state::${name}`, payload })

iii.registerFunction('articles::view', async ({ id }) => {
  const ops = [{ type: 'increment', path: 'views', by: 1 }]
  const answer = await state('update', { scope: 'blog::views', key: id, ops })
  return { views: answer.new_value.views }
})

iii.registerFunction('users::save', async ({ id, fields }) => {
  await state('update', { scope: 'blog::users', key: id, ops: [{ type: 'merge', value: fields }] })
  return { saved: true }
})

iii.registerFunction('users::get', async ({ id }) => {
  const user = await state('get', { scope: 'blog::users', key: id })
  return user == null ? { error: 'NOT_FOUND' } : user
})

iii.registerFunction('jobs::claim', async ({ job, worker }) => {
  const ops = [{ type: 'append', path: 'workers', value: [worker] }]
  const answer = await state('update', { scope: 'blog::claims', key: job, ops })
  return { claimed: answer.new_value.workers.length === 1 }
})

iii.registerFunction('recent::add', async ({ user, item }) => {
  const ops = [{ type: 'append', path: 'items', value: [item] }]
  await state('update', { scope: 'blog::recent', key: user, ops })
  return { added: true }
})

iii.registerFunction('recent::list', async ({ user }) => {
  const found = await state('get', { scope: 'blog::recent', key: user })
  return { items: found == null ? [] : found.items.map(([item]) => item) }
})

for (const name of ['SIGINT', 'SIGTERM']) {
  process.once(name, async () => {
    await iii.shutdown()
    process.exit(0)
  })
}
