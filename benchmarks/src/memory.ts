/**
 * Is memory flat? A million sends (W2), then one command whose event is followed up a million times. The heap is read
 * after a forced collection, so a line that climbs is memory that something holds; within the chain too, since a queue
 * that only grows would be freed at its end and never show.
 */
import { parseArgs } from "node:util"
import { load, names } from "./subjects.ts"
import { checkTally, resetTally } from "./workload.ts"

const { values } = parseArgs({
  options: {
    subject: { type: "string", default: "event-flow" },
    total: { type: "string", default: "1000000" }
  }
})

const collect = globalThis.gc
if (collect === undefined) {
  throw new Error("The collector is needed: npm run memory -w benchmarks, or node --expose-gc")
}

const total = Number(values.total)
const steps = 10
const step = Math.ceil(total / steps)

const print = (line: string): void => {
  process.stdout.write(`${line}\n`)
}

const megabytes = (bytes: number): string => (bytes / 2 ** 20).toFixed(2).padStart(9)

interface Reading {
  readonly heap: number
  readonly rss: number
}

const read = (): Reading => {
  // Twice: the first run can leave what finalizers and weak references let go of.
  collect()
  collect()
  const { heapUsed, rss } = process.memoryUsage()
  return { heap: heapUsed, rss }
}

const report = (label: string, { heap, rss }: Reading, first: Reading): void => {
  print(`${label.padStart(12)}  ${megabytes(heap)} MB  ${megabytes(heap - first.heap)} MB  ${megabytes(rss)} MB`)
}

const header = (title: string): void => {
  print(`\n${title}`)
  print(`${"after".padStart(12)}  ${"heap".padStart(12)}  ${"since start".padStart(12)}  ${"resident".padStart(12)}`)
}

const name = names.find((name) => name === values.subject)
if (name === undefined) {
  throw new Error(`There is no subject ${values.subject}: ${names.join(", ")}`)
}
// `--subject event-flow`, the default, is subjects/eventFlow.ts.
const subject = await load(name)

const send = await subject.setup("W2")
if (send === undefined) {
  throw new Error(`${name} has no W2`)
}
// What is made once and kept (compiled code, caches) is no leak: let it be made before the first reading.
await send(20_000)
header(`${name}: ${total.toLocaleString("en")} sends of one event to one handler`)
const beforeSends = read()
report("0", beforeSends, beforeSends)
for (let sent = 0; sent < total; sent += step) {
  resetTally()
  await send(step)
  checkTally("W2", step, false)
  report((sent + step).toLocaleString("en"), read(), beforeSends)
}

if (subject.chain === undefined) {
  print(`\n${name}: no chain to measure`)
} else {
  await subject.chain(20_000, () => {})
  header(`${name}: one command, followed up ${total.toLocaleString("en")} times, read by the handlers`)
  const beforeChain = read()
  report("0", beforeChain, beforeChain)
  let seen = 0
  await subject.chain(total, (depth) => {
    seen += 1
    if (depth % step === 0) {
      report(depth.toLocaleString("en"), read(), beforeChain)
    }
  })
  if (seen !== total) {
    throw new Error(`${name} followed up ${seen} times in place of ${total}`)
  }
  report("the end", read(), beforeChain)
}
await subject.close?.()
