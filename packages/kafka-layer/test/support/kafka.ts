/** What the tests against a broker share. */
import { it } from "@effect/vitest"
import type { Broker, Settings, Subscriber } from "@event-flow/core"
import { KafkaBroker, KafkaSubscriber, KafkaTopics } from "@event-flow/kafka-layer"
import type { KafkaConfig, KafkaHealth } from "@event-flow/kafka-layer"
import { type Background, watched } from "@event-flow/test-support/background"
import { eventually, unique } from "@event-flow/test-support/effects"
import { serverTests } from "@event-flow/test-support/sharedServer"
import { Admin, Consumer, offsetCommitV9 } from "@platformatic/kafka"
import { Effect, References } from "effect"
import type { Layer, Scope } from "effect"
import { consuming } from "./consumer.ts"

export { eventually, unique } from "@event-flow/test-support/effects"
export * from "./consumer.ts"

const kafka = serverTests("kafka")

/** The shared broker. */
export const servers: ReadonlyArray<string> = kafka.address?.split(",") ?? []

/** Tests against the shared broker, and against one of their own: skipped with the reason where there is none. */
export const { canOwn, withOwnServer, withServer } = kafka

/** `it.live` that logs only on demand, since a broken broker makes us log a lot. Failures in the background fail it. */
export const live = <E>(
  name: string,
  test: () => Effect.Effect<void, E, Background | Scope.Scope>,
  timeout?: number
): void => it.live(name, () => quietly(watched(test())), timeout)

export const quietly = <A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
  Effect.provideService(effect, References.MinimumLogLevel, logLevel)

const logLevel = process.env["KAFKA_TEST_LOGS"] === "true" ? "Debug" : "None"

export const createTopic = (
  name: string,
  partitions = 4,
  bootstrapServers = servers,
  settings: Readonly<Record<string, string>> = {}
): Effect.Effect<string, KafkaTopics.KafkaTopicsError | Settings.InvalidSetting> =>
  Effect.gen(function*() {
    const topic = unique(name)
    const topics = yield* KafkaTopics.KafkaTopics
    yield* topics.ensure([{ topic, partitions, settings }])
    return topic
  }).pipe(Effect.provide(KafkaTopics.layer({ bootstrapServers })))

export const withAdmin = <A>(bootstrapServers: ReadonlyArray<string>, use: (admin: Admin) => Promise<A>) =>
  Effect.acquireUseRelease(
    Effect.sync(() => new Admin({ clientId: "test", bootstrapBrokers: [...bootstrapServers], retries: 5 })),
    (admin) => Effect.promise(() => use(admin)),
    (admin) => Effect.promise(() => admin.close())
  )

/** What the group has committed, by partition. */
export const committed = (group: string, topic: string, bootstrapServers = servers) =>
  withAdmin(bootstrapServers, async (admin) => {
    const groups = await admin.listConsumerGroupOffsets({ groups: [group] })
    const partitions = groups[0]?.topics.find((candidate) => candidate.name === topic)?.partitions ?? []
    return new Map(partitions.map((partition) => [partition.partitionIndex, Number(partition.committedOffset)]))
  })

export const broker = (options: Partial<KafkaConfig.Publisher> = {}): Layer.Layer<
  Broker.Broker,
  Settings.InvalidSetting
> => KafkaBroker.layer({ bootstrapServers: servers, ...options })

export const subscriber = (options: Partial<KafkaConfig.Consumer> = {}): Layer.Layer<
  Subscriber.Subscriber | KafkaHealth.KafkaHealth,
  Settings.InvalidSetting
> => KafkaSubscriber.layer({ bootstrapServers: servers, ...consuming, ...options })

/** Deletes a topic. */
export const deleteTopic = (topic: string) => withAdmin(servers, (admin) => admin.deleteTopics({ topics: [topic] }))

/** Creates a topic of the name of one that was deleted. */
export const createAgain = (topic: string, partitions: number): Effect.Effect<void> =>
  Effect.gen(function*() {
    // Which topic has the name, as the broker knows it: "" for none
    const id = withAdmin(servers, (admin) =>
      admin.metadata({ topics: [topic], forceUpdate: true, retries: 0 }).then(
        ({ topics }) => topics.get(topic)?.id ?? "",
        () => ""
      ))
    const old = yield* id
    // Refused while the old one is being deleted
    const create = withAdmin(servers, (admin) =>
      admin.createTopics({ topics: [{ topic, partitions, replicas: 1 }] }).then(() =>
        undefined, () => undefined))
    yield* eventually(
      "it is another one",
      Effect.andThen(
        create,
        Effect.map(id, (id) =>
          id !== "" && id !== old)
      )
    )
  })

/** Commits for a group without members, as a program would that knows nothing of this layer. */
export const commitOffset = (
  group: string,
  topic: string,
  commit: { readonly offset: number; readonly metadata?: string; readonly leaderEpoch?: number }
): Effect.Effect<void> =>
  Effect.promise(async () => {
    const consumer = new Consumer({ clientId: "test", bootstrapBrokers: [...servers], groupId: group, retries: 5 })
    try {
      const coordinator = await consumer.findGroupCoordinator()
      const { brokers } = await consumer.metadata({ topics: [] })
      const connection = await consumer.connections.get(brokers.get(coordinator)!)
      await offsetCommitV9.api.async(connection, group, -1, "", null, [{
        name: topic,
        partitions: [{
          partitionIndex: 0,
          committedOffset: BigInt(commit.offset),
          committedLeaderEpoch: commit.leaderEpoch ?? -1,
          committedMetadata: commit.metadata ?? null
        }]
      }])
    } finally {
      await consumer.close()
    }
  })

/** The metadata of what the group has committed, by partition. */
export const committedMetadata = (group: string, topic: string) =>
  withAdmin(servers, async (admin) => {
    const groups = await admin.listConsumerGroupOffsets({ groups: [group] })
    const partitions = groups[0]?.topics.find((candidate) => candidate.name === topic)?.partitions ?? []
    return new Map(partitions.map((partition) => [partition.partitionIndex, partition.metadata ?? ""]))
  })
