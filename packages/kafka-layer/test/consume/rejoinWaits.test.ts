/** How often a subscription joins its group again. */
import { assert, it } from "@effect/vitest"
import { RejoinWaits } from "../../src/internal/consume/rejoinWaits.ts"

const afterEach = (waits: RejoinWaits, memberFor: ReadonlyArray<number>) => memberFor.map((ms) => waits.after(ms))

it("waits longer and longer, whether or not each join succeeded", () => {
  const expected = [250, 500, 1_000, 2_000, 4_000, 8_000, 10_000, 10_000]
  assert.deepStrictEqual(afterEach(new RejoinWaits(250), expected.map(() => 0)), expected)
  assert.deepStrictEqual(afterEach(new RejoinWaits(250), expected.map(() => 9_999)), expected)
})

it("begins short again after a membership that lasted", () => {
  const waits = new RejoinWaits(250)
  assert.deepStrictEqual(afterEach(waits, [0, 0, 0, 10_000, 0, 3_600_000]), [250, 500, 1_000, 250, 500, 250])
})

it("never waits less than its first wait", () => {
  assert.deepStrictEqual(afterEach(new RejoinWaits(30_000), [0, 0, 60_000]), [30_000, 30_000, 30_000])
})
