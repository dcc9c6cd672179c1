/** The memory broker promises what every broker does. */
import { describe, it } from "@effect/vitest"
import { MemoryBroker } from "@event-flow/core"
import { BrokerSuite } from "@event-flow/core/testing"

const suite = BrokerSuite.make("memory", MemoryBroker.layer(), {
  persistentTopics: true,
  oldMessagesForNewGroups: true,
  ephemeralGroups: true,
  onePerKey: true,
  countsAttempts: true,
  binaryKeys: true
})

describe(suite.name, () => {
  for (const { name, run } of suite.cases) it.live(name, () => run)
  for (const { name, reason } of suite.skipped) it.skip(`${name} (skipped: ${reason})`)
})
