/** A short soak, so that the long one (`npm run soak`) works when it is needed. */
import { assert, it } from "@effect/vitest"
import { serverTests } from "@event-flow/test-support/sharedServer"
import { Console, Effect } from "effect"
import { rmSync } from "node:fs"
import * as Soak from "../soak/soak.ts"

/** With servers of its own, which it breaks. */
const soak = (broker: Soak.BrokerName) =>
  it.live("the books of the orders balance after six faults", () =>
    Effect.gen(function*() {
      const options = { broker, seed: "2792", minutes: 0.6, faultsPerMinute: 10, rate: 20 }
      // What it tells meanwhile is in its logs, too
      const report = yield* Effect.provideService(Soak.run(options), Console.Console, { ...console, log: () => {} })
      console.info(Soak.render(options, report))
      assert.deepStrictEqual(report.problems, [], `logs in ${report.logs}`)
      const { committed, handled, lost, outOfOrder, published } = report
      assert.deepStrictEqual({ handled, published, lost, outOfOrder }, {
        handled: committed,
        published: committed,
        lost: 0,
        outOfOrder: 0
      })
      assert.deepStrictEqual(report.faults, { terminate: 1, refuse: 1, cut: 1, stall: 1, crash: 1, kill: 1 })
      assert.isAbove(committed, 100)
      rmSync(report.logs, { recursive: true })
    }), 600_000)

const postgres = serverTests("postgres")

postgres.withOwnServer("soak", () => {
  serverTests("kafka").withOwnServer("over Kafka", () => soak("kafka"))
  serverTests("rabbitmq").withOwnServer("over RabbitMQ", () => soak("rabbitmq"))
})
