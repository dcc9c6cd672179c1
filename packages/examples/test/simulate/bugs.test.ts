/** Every planted bug is found, and the run that shows it is made short; the system without a bug holds. */
import { assert, describe, it } from "@effect/vitest"
import { Fault, Simulation } from "@event-flow/simulation"
import { type Bug, bugs } from "../../src/simulate/bugs.ts"
import { scenario } from "../../src/simulate/scenario.ts"

const names = Object.keys(bugs) as ReadonlyArray<Bug>

it("the system holds: 600 runs, and every single fault at every operation", () => {
  const { cpuUsage } = process
  const before = cpuUsage()
  const report = Simulation.check(scenario(), { seeds: 600 })
  const { system, user } = cpuUsage(before)
  assert.strictEqual(String(report), `600 runs, ${report.faults} faults, ${report.steps} steps: all promises kept`)
  assert.isAbove(report.faults, 6_000)
  const each = Simulation.each(scenario())
  assert.deepStrictEqual(each.findings.map(String), [])
  assert.isAbove(each.runs, 500)
  const perHundred = (user + system) / 1000 / 6
  console.log(`100 seeds of orders: ${Math.round(perHundred)} ms of CPU; every single fault: ${each.runs} runs`)
  // Two seconds are promised on an idle machine
  assert.isBelow(perHundred, 10_000)
}, 240_000)

describe("found within 500 seeds, and made short:", () => {
  for (const bug of names) {
    it(bug, () => {
      const planted = scenario(bugs[bug])
      const { finding, runs } = Simulation.check(planted, { seeds: 500 })
      if (finding === undefined) return assert.fail(`not found in ${runs} runs`)
      assert.notStrictEqual(finding.invariant, "the program is deterministic")
      const faults = finding.faults.map(Fault.describe)
      assert.isAtMost(faults.length, 2, faults.join("\n"))
      assert.isAtMost(finding.workload.length, 4, finding.workload.join("\n"))
      // By itself: a seed is left where it decides an order, as in a race
      const { recording } = finding
      if (recording.schedule?.order === "fifo" && recording.schedule.latency === 0) {
        assert.strictEqual(recording.seed, 0)
      }
      const again = Simulation.replay(planted, recording)
      assert.strictEqual(again.finding?.invariant, finding.invariant)
      // The bug, and not the simulation
      assert.isTrue(Simulation.replay(scenario(), finding.recording).isPassed)
    }, 240_000)
  }
})

describe("one fault shows it, without a seed:", () => {
  // The others need a race
  const single = names.filter((bug) => !["deadline-race", "lost-update"].includes(bug))
  for (const bug of single) {
    it(bug, () => {
      const { findings } = Simulation.each(scenario(bugs[bug]), { stopAtFirst: true })
      assert.lengthOf(findings, 1)
    }, 240_000)
  }
})
