import { assert, it } from "@effect/vitest"
import { compatibilityPartitioner } from "@platformatic/kafka"
import { Effect, Schema } from "effect"
import { hash, partitionOf } from "../../src/internal/publish/murmur2.ts"

it("gives what Java's Utils.murmur2 gives", () => {
  // The cases of org.apache.kafka.common.utils.UtilsTest
  const cases: ReadonlyArray<readonly [string, number]> = [
    ["21", -973932308],
    ["foobar", -790332482],
    ["a-little-bit-long-string", -985981536],
    ["a-little-bit-longer-string", -1486304829],
    ["lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971],
    ["abc", 479470107]
  ]
  for (const [text, wanted] of cases) assert.strictEqual(hash(Buffer.from(text)), wanted, text)
})

it.effect.prop(
  "agrees with the client's own compatible partitioner",
  [Schema.String, Schema.Int.check(Schema.isBetween({ minimum: 1, maximum: 97 }))],
  ([key, partitions]) =>
    Effect.sync(() => {
      const bytes = Buffer.from(key)
      assert.strictEqual(
        partitionOf(bytes, partitions),
        compatibilityPartitioner({ topic: "t", value: bytes }, bytes) % partitions
      )
    }),
  { arbitrary: { runs: 2_000, seed: 1 } }
)
