import { registerWorker } from 'iii-sdk'

const iii = registerWorker(process.env.III_URL ?? 'ws://127.0.0.1:49134')
const state = async (name, payload) => {
  const answer = await iii.trigger({ function_id: `state::${name}`, payload, timeoutMs: 5000 })
  if (name === 'update' && answer.errors?.length) throw new Error(answer.errors[0].message)
  return answer
}
const entriesOf = (account) => `bank::entries:${account}`

iii.registerFunction('payments::on-event', async ({ event_id, account, cents }) => {
  const entry = { id: crypto.randomUUID(), account, cents }
  const ops = [{ type: 'append', path: 'tries', value: entry }]
  const { tries } = (await state('update', { scope: 'bank::events', key: event_id, ops })).new_value
  const first = tries[0]
  // The winner may have been killed before this, so whoever comes later does it as well: the same value.
  await state('set', { scope: entriesOf(first.account), key: event_id, value: { event_id, cents: first.cents } })
  return { duplicate: first.id !== entry.id }
})

iii.registerFunction('payments::balance', async ({ account }) => {
  const entries = await state('list', { scope: entriesOf(account) })
  return { account, balance: entries.reduce((sum, { cents }) => sum + cents, 0), events: entries.length }
})

for (const name of ['SIGINT', 'SIGTERM']) {
  process.once(name, async () => {
    await iii.shutdown()
    process.exit(0)
  })
}
