/** A broker that was not in sync becomes the leader: what it does not have is gone, what came since is not skipped. */
import { assert } from "@effect/vitest"
import { KafkaBroker, KafkaSubscriber } from "@event-flow/kafka-layer"
import type { KafkaCluster } from "@event-flow/test-support/kafkaCluster"
import { startKafkaCluster } from "@event-flow/test-support/kafkaCluster"
import { Effect, Layer } from "effect"
import { afterAll, beforeAll } from "vitest"
import { inSync, leads, topicOn } from "../support/cluster.ts"
import {
  committed,
  consume,
  consuming,
  eventually,
  live,
  publishNumbered,
  Tally,
  unique,
  withOwnServer
} from "../support/kafka.ts"

let cluster: KafkaCluster

const layers = Layer.unwrap(Effect.sync(() => {
  const { bootstrapServers } = cluster
  return Layer.merge(
    KafkaBroker.layer({ bootstrapServers, publishTimeout: "60 seconds" }),
    KafkaSubscriber.layer({ bootstrapServers, ...consuming })
  )
}))

withOwnServer("a leader that was not in sync", () => {
  beforeAll(async () => {
    cluster = await startKafkaCluster()
  })
  afterAll(() => cluster.dispose())

  live(
    "nothing that was published since is skipped, by a group that runs and by one that comes back",
    () =>
      Effect.gen(function*() {
        const [first, second] = cluster.nodes
        const topic = yield* topicOn(cluster, "unclean", [[1, 2]], {
          "unclean.leader.election.enable": "true",
          "min.insync.replicas": "1"
        })
        yield* inSync(cluster, topic)
        const [running, away] = [unique("running"), unique("away")]
        const [tally, later] = [new Tally(), new Tally()]
        const reads = (group: string, tally: Tally) =>
          consume({ topics: [topic], group }, (delivery) => Effect.sync(() => tally.add(delivery)))
        const isCommitted = (group: string, offset: number) =>
          eventually(
            `${group} has committed ${offset}`,
            Effect.map(
              committed(group, topic, cluster.bootstrapServers.slice(1)),
              (offsets) => offsets.get(0) === offset
            )
          )
        yield* reads(running, tally)
        yield* publishNumbered(topic, 100, { keys: 10 })
        // The second node does not get these
        yield* Effect.promise(() => second.kill())
        yield* publishNumbered(topic, 50, { keys: 10, from: 100 })
        yield* Effect.scoped(Effect.andThen(reads(away, later), isCommitted(away, 150)))
        yield* isCommitted(running, 150)
        yield* Effect.promise(() => first.kill())
        yield* Effect.promise(() => second.start())
        yield* leads(cluster, topic, [2])
        // Beyond offset 150, at which both groups continue
        yield* publishNumbered(topic, 80, { keys: 10, from: 1_000 })
        yield* reads(away, later)
        yield* Effect.all([tally.reached(230), later.reached(230)])
        for (const group of [running, away]) yield* isCommitted(group, 180)
        assert.deepStrictEqual([tally.handled, later.handled], [230, 230])
        yield* Effect.promise(() => first.start())
      }).pipe(Effect.scoped, Effect.provide(layers)),
    180_000
  )
})
