/**
 * Three nodes, while some of them are frozen, killed, restarted and moved. No test asks how long something took: a
 * fault lasts until messages that were published under it are handled in every partition that can go on.
 */
import { assert } from "@effect/vitest"
import { Health } from "@event-flow/core"
import { KafkaBroker, KafkaHealth, KafkaSubscriber } from "@event-flow/kafka-layer"
import type { KafkaConfig } from "@event-flow/kafka-layer"
import type { KafkaCluster } from "@event-flow/test-support/kafkaCluster"
import { startKafkaCluster } from "@event-flow/test-support/kafkaCluster"
import { Effect, Layer, Schedule } from "effect"
import { createServer } from "node:net"
import type { AddressInfo, Server } from "node:net"
import { afterAll, beforeAll } from "vitest"
import { groupOn, inSync, leads, Load, membersOf, reassign, spread, topicOn } from "../support/cluster.ts"
import { eventually, live, unique, withOwnServer } from "../support/kafka.ts"

let cluster: KafkaCluster

/** A broker that is away is noticed sooner than by default. Its cluster gives it up after four seconds. */
const settings = {
  publishTimeout: "60 seconds",
  connectTimeout: "2 seconds",
  requestTimeout: "3 seconds",
  fetchWait: "200 millis",
  commitInterval: "200 millis",
  heartbeatInterval: "1 second"
} as const

const layers = (options: Partial<KafkaConfig.Consumer & KafkaConfig.Publisher> = {}) =>
  Layer.unwrap(Effect.sync(() => {
    const { bootstrapServers } = cluster
    const all: KafkaConfig.Consumer & KafkaConfig.Publisher = { bootstrapServers, ...settings, ...options }
    return Layer.merge(KafkaBroker.layer(all), KafkaSubscriber.layer(all))
  }))

const node = (id: number) => cluster.nodes[id - 1]!

/** Nobody is disturbed by it. */
const calm = { failed: 0, handledTwice: 0 }

const outcome = ({ failed, handledTwice }: { readonly failed: number; readonly handledTwice: number }) => ({
  failed,
  handledTwice
})

withOwnServer("a cluster of three", () => {
  beforeAll(async () => {
    cluster = await startKafkaCluster()
  })
  afterAll(() => cluster.dispose())

  const frozen = (fault: string, options: { readonly coordinator: number }) =>
    live(fault, () =>
      Effect.gen(function*() {
        const topic = yield* topicOn(cluster, "frozen", spread)
        const group = yield* groupOn(cluster, options.coordinator)
        const load = yield* Load.start(cluster, { topic, group, partitions: 6 })
        yield* Effect.acquireUseRelease(
          Effect.sync(() => node(1).freeze()),
          () => Effect.andThen(load.goesOn(), load.commits),
          () => Effect.sync(() => node(1).thaw())
        )
        yield* load.goesOn()
        assert.deepStrictEqual(outcome(yield* load.end(fault)), calm)
        yield* inSync(cluster, topic)
      }).pipe(Effect.scoped, Effect.provide(layers())), 180_000)

  frozen("the first bootstrap broker is frozen: every partition goes on", { coordinator: 2 })
  frozen("the coordinator is frozen: another one is found, and nothing is handled twice", { coordinator: 1 })

  live(
    "a first address that accepts connections and is mute keeps nobody from starting",
    () =>
      Effect.flatMap(muteServer, (mute) =>
        Effect.gen(function*() {
          const topic = yield* topicOn(cluster, "mute", spread)
          const load = yield* Load.start(cluster, { topic, group: unique("mute"), partitions: 6 })
          assert.deepStrictEqual(outcome(yield* load.end("mute first address")), calm)
        }).pipe(Effect.provide(layers({ bootstrapServers: [mute, ...cluster.bootstrapServers] })))).pipe(Effect.scoped)
  )

  live("leaders are moved and replicas reassigned", () =>
    Effect.gen(function*() {
      const two = (shift: number) => spread.map((_, i) => [(i + shift) % 3 + 1, (i + shift + 1) % 3 + 1])
      const topic = yield* topicOn(cluster, "moved", two(0), { "min.insync.replicas": "1" })
      const load = yield* Load.start(cluster, { topic, group: unique("moved"), partitions: 6 })
      for (const shift of [1, 2, 0]) {
        yield* reassign(cluster, topic, two(shift))
        yield* load.goesOn()
      }
      assert.deepStrictEqual(outcome(yield* load.end("leaders moved three times")), calm)
    }).pipe(Effect.scoped, Effect.provide(layers())), 180_000)

  live("the coordinator is killed, and comes back", () =>
    Effect.gen(function*() {
      const topic = yield* topicOn(cluster, "killed", spread)
      const group = yield* groupOn(cluster, 2)
      const load = yield* Load.start(cluster, { topic, group, partitions: 6 })
      yield* Effect.promise(() => node(2).kill())
      yield* load.goesOn()
      yield* load.commits
      yield* Effect.promise(() => node(2).start())
      yield* inSync(cluster, topic)
      yield* load.goesOn()
      assert.deepStrictEqual(outcome(yield* load.end("coordinator killed")), calm)
    }).pipe(Effect.scoped, Effect.provide(layers())), 180_000)

  live("every node is restarted, two of them on other ports", () =>
    Effect.gen(function*() {
      const topic = yield* topicOn(cluster, "rolling", spread)
      const load = yield* Load.start(cluster, { topic, group: unique("rolling"), partitions: 6 })
      for (const node of cluster.nodes) {
        yield* Effect.promise(() => node.stop())
        if (node.id !== 2) yield* Effect.promise(() => node.move())
        yield* Effect.promise(() => node.start())
        yield* inSync(cluster, topic)
        yield* load.goesOn()
      }
      assert.deepStrictEqual(outcome(yield* load.end("rolling restart, two on other ports")), calm)
    }).pipe(Effect.scoped, Effect.provide(layers())), 180_000)

  live(
    "two of three are down: failed publishes say whether they arrived, and the consumer goes on where it was",
    () =>
      Effect.gen(function*() {
        const topic = yield* topicOn(cluster, "down", spread)
        const group = yield* groupOn(cluster, 2)
        const load = yield* Load.start(cluster, { topic, group, partitions: 6 })
        const members = yield* membersOf(cluster, group)
        assert.strictEqual(members.length, 1)
        const health = yield* KafkaHealth.KafkaHealth
        yield* Effect.promise(() => Promise.all([node(2).kill(), node(3).kill()]))
        yield* eventually("publishes fail", () => load.failed.size > 50)
        yield* eventually(
          "the session timeout is over",
          Effect.map(health.subscriptions, ([it]) => it!.detail?.includes("nothing is delivered") === true)
        )
        yield* Effect.promise(() => Promise.all([node(2).start(), node(3).start()]))
        yield* load.goesOn()
        assert.deepStrictEqual(yield* membersOf(cluster, group), members, "no other name")
        const books = yield* load.end("two of three down")
        assert.isAbove(books.failed, 50)
        assert.strictEqual(books.handledTwice, 0)
        yield* inSync(cluster, topic)
      }).pipe(
        Effect.scoped,
        Effect.provide(
          layers({ publishTimeout: "3 seconds", sessionTimeout: "6 seconds", rebalanceTimeout: "30 seconds" })
        )
      ),
    180_000
  )

  live("health names the partitions that cannot be read, and does not flap", () =>
    Effect.gen(function*() {
      // On one node each: nobody takes them over
      const topic = yield* topicOn(cluster, "alone", [[1], [2], [3], [1], [2], [3]], { "min.insync.replicas": "1" })
      const load = yield* Load.start(cluster, { topic, group: yield* groupOn(cluster, 2), partitions: 6 })
      const { subscriptions } = yield* KafkaHealth.KafkaHealth
      const ofPublisher = Effect.map(Health.all, (all) => all.find(({ component }) => component === "publisher")!)
      const states = { publisher: ["connected"], subscription: ["connected"] }
      const look = (what: keyof typeof states) =>
        Effect.map(what === "publisher" ? ofPublisher : subscription, ({ detail, state }) => {
          if (states[what].at(-1) !== state) states[what].push(state)
          return `${state}: ${detail}`
        })
      const subscription = Effect.map(subscriptions, ([it]) => it!)
      const both = Effect.all([look("publisher"), look("subscription")])
      yield* eventually(
        "the publisher has reached the cluster",
        Effect.map(ofPublisher, ({ state }) => state === "connected")
      )
      yield* Effect.forkScoped(Effect.repeat(both, Schedule.spaced("50 millis")))
      const unread = Effect.map(subscription, ({ partitions }) =>
        partitions.filter(({ unreadSince }) =>
          unreadSince !== undefined
        ).map(({ lag, partition }) => `${partition} ${lag}`))
      assert.deepStrictEqual(yield* unread, [])
      yield* Effect.promise(() =>
        node(3).kill()
      )
      yield* eventually(
        "both are disconnected",
        Effect.map(both, (both) => both.every((it) => it.startsWith(`disconnected: no broker answers for ${topic}/`)))
      )
      yield* eventually("its partitions are unread", Effect.map(unread, (unread) => unread.length === 2))
      assert.deepStrictEqual(yield* unread, ["2 undefined", "5 undefined"])
      yield* leads(cluster, topic, [1, 2, -1, 1, 2, -1])
      yield* load.goesOn([0, 1, 3, 4])
      yield* Effect.promise(() => node(3).start())
      yield* load.goesOn()
      yield* eventually(
        "both are connected",
        Effect.map(both, (both) => both.every((it) => it === "connected: undefined"))
      )
      assert.deepStrictEqual(yield* unread, [])
      const once = ["connected", "disconnected", "connected"]
      assert.deepStrictEqual(states, { publisher: once, subscription: once })
      assert.deepStrictEqual(outcome(yield* load.end("the only replica is away")), calm)
    }).pipe(Effect.scoped, Effect.provide(Layer.provideMerge(layers(), Health.layer))), 180_000)
})

/** Accepts connections and answers nothing; its address. */
const muteServer = Effect.map(
  Effect.acquireRelease(
    Effect.promise(() =>
      new Promise<Server>((resolve) => {
        const server = createServer((socket) => socket.resume())
        server.listen(0, "127.0.0.1", () => resolve(server))
      })
    ),
    (server) => Effect.sync(() => server.close())
  ),
  // An AddressInfo for every server that listens on a port
  (server) => `127.0.0.1:${(server.address() as AddressInfo).port}`
)
