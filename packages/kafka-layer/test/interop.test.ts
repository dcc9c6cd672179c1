/** Kafka's own Java client reads what we write, and we read what it writes; so does kcat where it is installed. */
import { assert } from "@effect/vitest"
import { Broker, Message, Subscriber } from "@event-flow/core"
import { KafkaHealth } from "@event-flow/kafka-layer"
import { unless } from "@event-flow/test-support/sharedServer"
import { Effect } from "effect"
import { spawnSync } from "node:child_process"
import { partitionOf } from "../src/internal/publish/murmur2.ts"
import { java, noJava, startJava } from "./support/java.ts"
import {
  broker,
  consume,
  createTopic,
  eventually,
  live,
  publishNumbered,
  servers,
  subscriber,
  Tally,
  unique,
  withServer
} from "./support/kafka.ts"

const text = (base64: string): string => Buffer.from(base64, "base64").toString()

const message = (topic: string) =>
  Message.make({
    topic,
    key: "käse-1",
    attributes: {
      specversion: "1.0",
      id: "018f4f7e-1",
      type: "MeetingAnnounced.v1",
      source: "/meetings",
      subject: "käse-1",
      datacontenttype: "application/json"
    },
    headers: { tenant: "blau" },
    body: Buffer.from(`{"title":"Grüße"}`)
  })

const expected = {
  "ce_specversion": "1.0",
  "ce_id": "018f4f7e-1",
  "ce_type": "MeetingAnnounced.v1",
  "ce_source": "/meetings",
  "ce_subject": "käse-1",
  "content-type": "application/json",
  "tenant": "blau"
}

const withJava = noJava === undefined ? withServer : unless(noJava)

withJava("interoperability with Java", () => {
  live("its consumer reads key, headers and body as the CloudEvents Kafka binding says", () =>
    Effect.gen(function*() {
      const topic = yield* createTopic("to-java", 5)
      const service = yield* Broker.Broker
      yield* service.publish([message(topic)])
      const [partition, key, headers, body] = java("consume", servers.join(), topic, "1")[0]!.split(" ")
      assert.strictEqual(Number(partition), partitionOf(Buffer.from("käse-1"), 5))
      assert.strictEqual(text(key!), "käse-1")
      assert.strictEqual(text(body!), `{"title":"Grüße"}`)
      const read = headers!.split(";").filter((header) => header !== "").map((header) => header.split(":"))
      assert.deepStrictEqual(Object.fromEntries(read.map(([name, value]) => [name, text(value!)])), expected)
    }).pipe(Effect.provide(broker())))

  live("we read what its producer writes, from the partition of its choice", () =>
    Effect.gen(function*() {
      const topic = yield* createTopic("from-java", 5)
      const headers = Object.entries(expected).map(([name, value]) => `${name}=${value}`)
      const partition = java("produce", servers.join(), topic, "käse-1", `{"title":"Grüße"}`, ...headers)[0]
      const service = yield* Subscriber.Subscriber
      const subscription = yield* service.subscribe({ topics: [topic], group: unique("java"), maxInFlight: 1 })
      const [delivery] = yield* subscription.take
      const original = message(topic)
      assert.strictEqual(delivery.origin["partition"], partition)
      assert.strictEqual(Number(partition), partitionOf(Buffer.from("käse-1"), 5))
      assert.strictEqual(delivery.message.key, original.key)
      assert.deepStrictEqual({ ...delivery.message.attributes }, original.attributes)
      assert.deepStrictEqual({ ...delivery.message.headers }, original.headers)
      assert.strictEqual(Buffer.from(delivery.message.body!).toString(), `{"title":"Grüße"}`)
    }).pipe(Effect.scoped, Effect.provide(subscriber())))

  for (const [protocol, what] of [["classic", "classic protocol"], ["consumer", "new protocol (KIP-848)"]] as const) {
    live(
      `a member of the ${what} shares a group with ours, which takes over when it is gone`,
      () =>
        Effect.gen(function*() {
          const topic = yield* createTopic("java-member", 4)
          const group = unique("java-member")
          const [ours, its, both] = [new Tally(), new Tally(), new Tally()]
          let assigned = 0
          const member = yield* startJava(["member", servers.join(), topic, group, protocol], (line) => {
            const [what, value] = line.split(" ")
            if (what === "assigned") assigned = Number(value)
            if (what === "got") { for (const tally of [its, both]) tally.addNumber(Number(value), undefined) }
          })
          yield* eventually("it has all", () => assigned === 4)
          yield* consume({ topics: [topic], group }, (delivery) =>
            Effect.sync(() => {
              for (const tally of [ours, both]) tally.add(delivery)
            }))
          const health = yield* KafkaHealth.KafkaHealth
          const hasPartitions = (count: number) =>
            eventually(
              `we have ${count}`,
              Effect.map(health.subscriptions, ([it]) => it!.state === "connected" && it!.partitions.length === count)
            )
          yield* hasPartitions(2)
          yield* eventually("it has the others", () => assigned === 2)
          yield* publishNumbered(topic, 400, { keys: 80 })
          yield* both.reached(400)
          assert.isTrue(ours.distinct > 0 && its.distinct > 0, `${ours.distinct} and ${its.distinct}`)
          yield* member.kill
          yield* publishNumbered(topic, 400, { keys: 80, from: 400 })
          yield* both.reached(800)
          yield* hasPartitions(4)
          assert.deepStrictEqual([both.lost(800), ours.duplicated], [0, 0])
        }).pipe(Effect.scoped, Effect.provide([broker(), subscriber()])),
      180_000
    )
  }

  live(
    "a group whose members have no assignor in common with ours refuses it with that reason, until they are gone",
    () =>
      Effect.gen(function*() {
        const topic = yield* createTopic("java-member", 4)
        const group = unique("java-member")
        let assigned = 0
        const assignor = "org.apache.kafka.clients.consumer.CooperativeStickyAssignor"
        const member = yield* startJava(["member", servers.join(), topic, group, "classic", assignor], (line) => {
          if (line.startsWith("assigned")) assigned = Number(line.split(" ")[1])
        })
        yield* eventually("it has all", () => assigned === 4)
        const subscribe = Subscriber.Subscriber.use((service) =>
          service.subscribe({ topics: [topic], group, maxInFlight: 1 })
        )
        const error = yield* Effect.flip(Effect.scoped(subscribe)).pipe(
          Effect.provide(subscriber({ subscribeTimeout: "2 seconds" }))
        )
        assert.isTrue(error._tag === "SubscribeError" && error.reason._tag === "Rejected", error.message)
        assert.match(error.message, /JoinGroup|INCONSISTENT_GROUP_PROTOCOL|protocol/)
        yield* member.kill
        yield* subscribe.pipe(Effect.provide(subscriber()))
      }).pipe(Effect.scoped),
    180_000
  )

  live("its partitioner chooses as ours does", () =>
    Effect.sync(() => {
      const keys = Array.from({ length: 200 }, (_, i) => `key-${i * 7919}-ä`)
      const partitions = java("partitions", "13", ...keys)
      for (const [i, key] of keys.entries()) {
        assert.strictEqual(partitionOf(Buffer.from(key), 13), Number(partitions[i]), key)
      }
    }))
})

const noKcat = spawnSync("kcat", ["-V"], { stdio: "ignore" }).status !== 0
const withKcat = noKcat ? unless("no kcat: install it") : withServer

withKcat("interoperability with kcat", () => {
  live("kcat reads key, headers and body, and checks the checksum", () =>
    Effect.gen(function*() {
      const topic = yield* createTopic("to-kcat", 1)
      const service = yield* Broker.Broker
      yield* service.publish([message(topic)])
      const options = "-C -o beginning -c 1 -X check.crcs=true -f %k|%h|%s"
      const read = spawnSync("kcat", [...options.split(" "), "-b", servers.join(), "-t", topic], {
        encoding: "utf8",
        timeout: 60_000
      })
      assert.strictEqual(
        read.stdout,
        `käse-1|${Object.entries(expected).map(([name, value]) => `${name}=${value}`).join()}|{"title":"Grüße"}`
      )
    }).pipe(Effect.provide(broker({ compression: "lz4" }))))
})
