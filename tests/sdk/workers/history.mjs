// Writes a key many times, pages through its versions, and reads the past at one of their revisions.
import * as sdk from 'iii-sdk'

const start = sdk.registerWorker ?? sdk.init
const worker = start(process.env.III_URL, { workerName: 'history', otel: { enabled: false } })
const trigger = (function_id, payload) =>
  sdk.registerWorker ? worker.trigger({ function_id, payload }) : worker.trigger(function_id, payload)
const key = { scope: 's', key: 'k' }
const count = 120

async function cursor() {
  for (;;) {
    try {
      return (await trigger('iii-skill::state::changes', {})).next
    } catch {
      await new Promise((resolve) => setTimeout(resolve, 50))
    }
  }
}

const after = await cursor()
await Promise.all(Array.from({ length: count }, (_, value) => trigger('state::set', { ...key, value })))
const versions = []
const pages = []
let before = null
do {
  const page = await trigger('iii-skill::state::history', { ...key, before, limit: 50 })
  pages.push(page.versions.length)
  versions.push(...page.versions)
  before = page.next
} while (before !== null && pages.length < 10)
const past = []
for (const { revision } of versions) {
  const page = await trigger('iii-skill::state::past', { revision })
  past.push(page.entries.find((entry) => entry.key === 'k')?.value)
}
const { changes } = await trigger('iii-skill::state::changes', { after, limit: count })
const revisions = versions.map(({ revision }) => revision)
const values = versions.map(({ value }) => value)
console.log(
  JSON.stringify({ found: { pages, revisions, values, past, told: changes.map(({ revision }) => revision) } }),
)
process.once('SIGTERM', () => process.exit(0))
