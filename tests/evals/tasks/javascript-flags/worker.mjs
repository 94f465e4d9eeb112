import { registerWorker } from 'iii-sdk'

const iii = registerWorker(process.env.III_URL ?? 'ws://127.0.0.1:49134')
const state = (name, payload) => iii.trigger({ function_id: `state::${name}`, payload })
const scope = 'app::flags'

iii.registerFunction('flags::set', async ({ name, on }) => {
  await state('update', { scope, key: name, ops: [{ type: 'set', path: 'on', value: on }] })
  return { name, on }
})

iii.registerFunction('flags::get', async (data) => {
  const { name } = data
  const flag = await state('get', { scope, key: name })
  if (flag == null) return { name, on: data.default, found: false }
  const ops = [{ type: 'increment', path: 'reads', by: 1 }]
  const answer = await state('update', { scope, key: name, ops })
  return { name, on: answer.new_value.on, found: true }
})

iii.registerFunction('flags::stats', async ({ name }) => {
  const flag = await state('get', { scope, key: name })
  return { name, on: flag.on, reads: flag.reads ?? 0 }
})

for (const name of ['SIGINT', 'SIGTERM']) {
  process.once(name, async () => {
    await iii.shutdown()
    process.exit(0)
  })
}
