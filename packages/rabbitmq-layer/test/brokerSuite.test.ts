import { it } from "@effect/vitest"
import { BrokerSuite } from "@event-flow/core/testing"
import { Effect } from "effect"
import { afterAll, beforeAll } from "vitest"
import { layers, type OwnServer, startOwn, withOwnServer, withServer } from "./support/rabbit.ts"

const promised = { binaryKeys: true, durable: true, ephemeralGroups: true, patience: "60 seconds" } as const

withServer("quorum queues, competing consumers", () => {
  const suite = BrokerSuite.make("RabbitMQ", layers(), { ...promised, orderPerKey: false, countsAttempts: true })
  for (const { name, run } of suite.cases) it.live(name, () => run, 120_000)
  for (const { name, reason } of suite.skipped) it.skip(`${name} (skipped: ${reason})`)
})

withServer("quorum queues, a single active consumer", () => {
  const layer = layers({ singleActiveConsumer: true, channels: 4 })
  const suite = BrokerSuite.make("RabbitMQ", layer, { ...promised, orderPerKey: true, countsAttempts: true })
  for (const { name, run } of suite.cases) it.live(name, () => run, 120_000)
})

withServer("classic queues", () => {
  const suite = BrokerSuite.make("RabbitMQ", layers({ queueType: "classic" }), { ...promised, orderPerKey: false })
  for (const { name, run } of suite.cases) it.live(name, () => run, 120_000)
})

withOwnServer("restarts", () => {
  let server: OwnServer
  beforeAll(async () => {
    server = await startOwn()
  })
  afterAll(() => server?.dispose())
  const restart = Effect.promise(async () => {
    await server.control.stop()
    await server.control.start()
  })
  it.live("publisher and subscription survive two restarts of the broker", () => {
    const suite = BrokerSuite.make("RabbitMQ", layers({ url: server.url, singleActiveConsumer: true }), {
      ...promised,
      orderPerKey: true,
      restart
    })
    return suite.cases.find(({ name }) => name.includes("restarts"))!.run
  })
})
