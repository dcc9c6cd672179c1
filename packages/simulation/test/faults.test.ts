/** Faults hang on operations: a list of them repeats, and each stays where it is without the others. */
import { assert, describe, it } from "@effect/vitest"
import { Fault } from "@event-flow/simulation"
import type { Scenario } from "@event-flow/simulation/Scenario"
import { runScenario } from "../src/internal/run/run.ts"
import { fromRecording, fromSeed, recordingOf } from "../src/internal/search/settings.ts"
import { traceOf } from "../src/internal/search/trace.ts"
import { counts } from "./support/counts.ts"

// Nodes are of no interest here
const scenario = counts() as unknown as Scenario

const keyOf = (fault: Fault.Fault): string => JSON.stringify(fault)

describe("for 60 seeds", () => {
  const outcomes = Array.from(
    { length: 60 },
    (_, i) => runScenario(scenario, { ...fromSeed(scenario, i + 1), keepsStory: true })
  )

  it("the list of the faults of a run repeats it", () => {
    for (const outcome of outcomes) {
      const again = runScenario(scenario, fromRecording(recordingOf(outcome)))
      // A fault at a time that found nobody is a task all the same
      assert.deepStrictEqual(traceOf(again).slice(0, -1), traceOf(outcome).slice(0, -1))
      assert.deepStrictEqual([again.broken, again.faults, again.millis], [
        outcome.broken,
        outcome.faults,
        outcome.millis
      ])
    }
  })

  it("without one of its faults, no other fault befalls an operation that had none or another one", () => {
    let compared = 0
    for (const outcome of outcomes) {
      const all = new Set(outcome.faults.map(keyOf))
      const middle = Math.floor(outcome.faults.length / 2)
      for (const i of new Set([0, middle])) {
        const faults = outcome.faults.filter((_, j) => j !== i)
        const without = runScenario(scenario, fromRecording({ ...recordingOf(outcome), faults }))
        for (const fault of without.faults) {
          assert.isTrue(all.has(keyOf(fault)), `seed ${outcome.setting.seed}: ${Fault.describe(fault)}`)
          compared++
        }
      }
    }
    assert.isAbove(compared, 300)
  })

  it("the same operation of a seed has the same fault, whatever else happens", () => {
    for (const { setting } of outcomes) {
      const plan = fromSeed(scenario, setting.seed).plan
      for (let n = 2; n < 20; n++) {
        const operation = `counts: commit counts, inbox #${n}`
        assert.deepStrictEqual(plan.faultOf(operation, "statement"), setting.plan.faultOf(operation, "statement"))
      }
    }
  })

  it("every kind of fault befalls some run", () => {
    const kinds = new Set(outcomes.flatMap(({ faults }) => faults.map((fault) => fault.do)))
    assert.sameMembers([...kinds], [
      "crashBefore",
      "crashAfter",
      "failBefore",
      "failAfter",
      "duplicate",
      "loseAck",
      "slow",
      "timeout",
      "outage",
      "rebalance",
      "restart",
      "stall"
    ])
  })
})

it("a fault says in words what it is", () => {
  assert.strictEqual(
    Fault.describe({ operation: "shop: commit orders", do: "failAfter" }),
    "shop: commit orders: it is done, and fails for the caller"
  )
  assert.strictEqual(Fault.describe({ time: 5, do: "outage", lasts: 20 }), "at 5 ms the broker is away for 20 ms")
})
