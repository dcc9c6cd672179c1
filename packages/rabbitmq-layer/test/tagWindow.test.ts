import { assert, describe, it } from "@effect/vitest"
import { Schema } from "effect"
import { TagWindow } from "../src/internal/tagWindow.ts"

const Step = Schema.Union([
  Schema.TaggedStruct("Push", { count: Schema.Int.check(Schema.isBetween({ minimum: 1, maximum: 2_000 })) }),
  Schema.TaggedStruct("Take", { tag: Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 5_000 })) }),
  Schema.TaggedStruct("TakeUpTo", { tag: Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 5_000 })) })
])

describe("TagWindow", () => {
  it.prop("gives what a map of tags gives", [Schema.Array(Step)], ([steps]) => {
    const window = new TagWindow<string>()
    const model = new Map<number, string>()
    let tags = 0
    for (const step of steps) {
      switch (step._tag) {
        case "Push":
          for (let i = 0; i < step.count; i++) {
            const tag = ++tags
            model.set(tag, `item ${tag}`)
            window.push(`item ${tag}`)
          }
          break
        case "Take":
          assert.strictEqual(window.take(step.tag), model.get(step.tag))
          model.delete(step.tag)
          break
        case "TakeUpTo": {
          const expected = [...model].filter(([tag]) => tag <= step.tag)
          assert.deepStrictEqual(window.takeUpTo(step.tag), expected.map(([, item]) => item))
          for (const [tag] of expected) model.delete(tag)
        }
      }
      assert.strictEqual(window.size, model.size)
      assert.strictEqual(window.first, model.values().next().value)
      assert.deepStrictEqual([...window], [...model.values()])
    }
  })

  it("takes an item once", () => {
    const window = new TagWindow<string>()
    window.push("a")
    window.push("b")
    assert.strictEqual(window.take(2), "b")
    assert.strictEqual(window.take(2), undefined)
    assert.deepStrictEqual(window.takeUpTo(2), ["a"])
    window.push("c")
    assert.strictEqual(window.take(1), undefined)
    assert.strictEqual(window.take(3), "c")
  })
})
