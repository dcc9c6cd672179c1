/** The schedule of the soak's faults: the same for a seed, with time to recover. And what its books see. */
import { assert, it } from "@effect/vitest"
import { Schema } from "effect"
import * as Schedule from "./soak/schedule.ts"
import { audit } from "./soak/soak.ts"

const options = { seed: "1", minutes: 10, faultsPerMinute: 5 }

it("is the same for the same seed, and another for another one", () => {
  assert.deepStrictEqual(Schedule.make(options), Schedule.make({ ...options }))
  assert.notDeepEqual(Schedule.make(options), Schedule.make({ ...options, seed: "2" }))
  // A longer soak begins as a shorter one
  const short = Schedule.make({ ...options, minutes: 3 })
  assert.deepStrictEqual(Schedule.make(options).slice(0, short.length), short)
})

it("is this one for seed 1", () => {
  assert.deepStrictEqual(Schedule.make({ ...options, minutes: 1 }).map(Schedule.describe), [
    "00:01 fill database for 5.4 s",
    "00:12 kill shop for 1.6 s",
    "00:27 silence totals-2>broker for 4.2 s",
    "00:38 terminate relay-1 for 1.9 s",
    "00:50 isolate database for 5.6 s"
  ])
})

it("has every kind of fault, five a minute", () => {
  const made = Schedule.make(options)
  assert.isAtLeast(made.length, 47)
  assert.isAtMost(made.length, 50)
  assert.strictEqual(new Set(made.map(({ kind }) => kind)).size, 11)
})

const Seconds = Schema.Int.check(Schema.isBetween({ minimum: 1, maximum: 30 }))

it.prop("leaves calm after each round, and lifts a fault before another touches the same", [
  Schema.String,
  Seconds,
  Seconds
], ([seed, minutes, faultsPerMinute]) => {
  const made = Schedule.make({ seed, minutes, faultsPerMinute })
  const slot = Schedule.slotOf({ faultsPerMinute })
  const calm = Schedule.calmOf({ faultsPerMinute })
  const round = Schedule.roundLength * slot
  for (const [i, fault] of made.entries()) {
    const { at, lasts, target } = fault
    assert.isAtLeast(lasts, 0)
    const endOfRound = Math.min((Math.floor(at / round) + 1) * round, minutes * 60_000)
    assert.isAtMost(at + lasts, endOfRound - calm, Schedule.describe(fault))
    for (const later of made.slice(i + 1).filter((later) => later.at <= at + lasts)) {
      assert.notStrictEqual(later.target, target, Schedule.describe(later))
      if (later.kind === "isolate") assert.isFalse(target.endsWith(`>${later.target}`), Schedule.describe(later))
      if (fault.kind === "isolate") assert.isFalse(later.target.endsWith(`>${target}`), Schedule.describe(later))
    }
  }
})

it("counts what was published twice or after a later event of its key", () => {
  const published = (text: string) => text.split(" ").map((one) => ({ key: one[0]!, number: Number(one.slice(1)) }))
  assert.deepStrictEqual(audit(published("a1 b1 a2 b2")), { different: 4, twice: 0, late: 0 })
  // Again after a later one: each was first in order
  assert.deepStrictEqual(audit(published("a1 a2 b1 a1 a2 a3")), { different: 4, twice: 2, late: 0 })
  assert.deepStrictEqual(audit(published("a1 a3 a2 b1 a2")), { different: 4, twice: 1, late: 1 })
})
