/** What a commit says of its topic. */
import { assert, it } from "@effect/vitest"
import * as TopicHistory from "../../src/internal/consume/topicHistory.ts"

const topic = { id: "t-1", partitionsCount: 6 }

it("comes back as it was, in its own cluster only", () => {
  const history = { topicId: "t-1", began: 4 }
  for (const cluster of ["MkU3OEVBNTcwNTJENDM2Qg", "my:own\ncluster", null]) {
    const metadata = TopicHistory.encode(history, cluster)
    assert.deepStrictEqual(TopicHistory.decode(metadata, cluster), history)
    assert.isUndefined(TopicHistory.decode(metadata, "another"))
  }
})

it("is nothing where another program committed", () => {
  for (const metadata of [null, "", "x", "event-flow", "event-flow:4:t-1", "event-flow:-1:t-1:c", "NaN:4:t-1:c"]) {
    assert.isUndefined(TopicHistory.decode(metadata, "c"))
  }
})

it("knows with how many partitions a group began", () => {
  assert.deepStrictEqual(TopicHistory.merge(topic, []), { topicId: "t-1", began: 6 })
  assert.deepStrictEqual(
    TopicHistory.merge(topic, [{ topicId: "t-1", began: 6 }, { topicId: "t-1", began: 2 }]),
    { topicId: "t-1", began: 2 }
  )
})

it("a topic that was created anew has only partitions that the group has not seen", () => {
  assert.deepStrictEqual(
    TopicHistory.merge(topic, [{ topicId: "t-1", began: 6 }, { topicId: "t-0", began: 6 }]),
    { topicId: "t-1", began: 0 }
  )
})
