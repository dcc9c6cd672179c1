import { assert, describe, it } from "@effect/vitest"
import { Ids } from "@event-flow/core"

const { next } = Ids.Ids.defaultValue()

describe("the ids of a program that sets none", () => {
  it("are UUIDs of version 7 with the time of their making (RFC 9562)", () => {
    const before = Date.now()
    const id = next()
    const after = Date.now()
    assert.match(id, /^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/)
    const time = Number.parseInt(id.replaceAll("-", "").slice(0, 12), 16)
    assert.isAtLeast(time, before)
    assert.isAtMost(time, after)
  })

  it("differ, and those of a later millisecond sort after the earlier ones", () => {
    const ids = Array.from({ length: 100_000 }, next)
    assert.strictEqual(new Set(ids).size, ids.length)
    const times = ids.map((id) => id.slice(0, 13))
    assert.deepStrictEqual(times, times.toSorted())
  })
})
