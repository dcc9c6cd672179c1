/** Messages of other programs, whatever their headers and bytes: each ends handled or put aside, and the consumer goes on. */
import { assert, describe, it } from "@effect/vitest"
import {
  Broker,
  BrokerLayer,
  ConsumerPolicy,
  EventConsumer,
  FlowObserver,
  Inbox,
  Message,
  Telemetry
} from "@event-flow/core"
import { Effect, Layer, Schema } from "effect"
import { adjust, open, RecordingBroker, RecordingLogger } from "../fixtures.ts"
import { FakeSubscriber } from "./fakeSubscriber.ts"
import { order, Orders, ordersFlow, publishError, settled, setup } from "./support.ts"

const Name = Schema.Union([
  Schema.Literals(["__proto__", "constructor", "toString", "toJSON", "hasOwnProperty", "valueOf", ""]),
  Schema.Literals(["baggage", "traceparent", "dead-letter-reason", "event-flow-retry-step", "event-flow-retry-group"]),
  Schema.String
])
const Value = Schema.Union([
  Schema.Null,
  Schema.String,
  Schema.Array(Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 255 }))).check(Schema.isMaxLength(8))
])
const Foreign = Schema.Struct({
  headers: Schema.Array(Schema.Tuple([Name, Value])).check(Schema.isMaxLength(6)),
  attributes: Schema.Array(Schema.Tuple([Name, Schema.String])).check(Schema.isMaxLength(3)),
  type: Schema.Union([Schema.Literals(["Ordered.v1", "__proto__.v1", "constructor.v1", "Ordered.v2"]), Schema.String]),
  body: Schema.Union([
    Schema.Null,
    Schema.Literals(["{\"n\":1}", "{\"__proto__\":{\"n\":1}}", "null", "{"]),
    Schema.String
  ])
})

const messageOf = ({ attributes, body, headers, type }: typeof Foreign.Type, i: number): Message.Message => {
  const added = BrokerLayer.emptyRecord<Message.Headers[string]>()
  for (const [name, value] of headers) {
    BrokerLayer.addHeader(added, name, value === null || typeof value === "string" ? value : Uint8Array.from(value))
  }
  const all = BrokerLayer.emptyRecord<string>()
  for (const [name, value] of attributes) all[name] = value
  return Message.make({
    topic: "orders",
    attributes: Object.assign(all, { id: String(i), type }),
    headers: added,
    body: body === null ? null : new TextEncoder().encode(body)
  })
}

const isOurs = (name: string): boolean => /^(dead-letter|event-flow-retry)-/.test(name)

const foreignHeaders = (message: Message.Message) =>
  Object.keys(message.headers).filter((name) => !isOurs(name)).map((name) => [name, message.headers[name]])

describe("F22: a foreign message", () => {
  for (const decision of ["dead-lettered", "postponed"] as const) {
    it.effect.prop(
      `is handled or ${decision}, with all of its headers and attributes`,
      [Schema.Array(Foreign).check(Schema.isMaxLength(8))],
      ([foreign]) =>
        Effect.gen(function*() {
          const policy = () =>
            decision === "postponed"
              ? ConsumerPolicy.postpone({ topic: "later", step: 1, delay: 1 })
              : ConsumerPolicy.deadLetter()
          let handled = 0
          const { broker, close, deliver, log } = yield* setup(
            { policy, concurrency: 3 },
            () => Effect.sync(() => void handled++)
          )
          const sent = foreign.map(messageOf)
          yield* deliver(...sent, order(99))
          yield* settled
          assert.strictEqual(log.filter((entry) => entry.startsWith("ack")).length, sent.length + 1)
          assert.strictEqual(handled + broker.batches.length, sent.length + 1)
          for (const [aside] of broker.batches) {
            const original = sent[Number(aside!.attributes["id"])]!
            assert.deepStrictEqual(foreignHeaders(aside!), foreignHeaders(original))
            assert.deepStrictEqual(Object.entries(aside!.attributes), Object.entries(original.attributes))
            assert.deepStrictEqual(aside!.body, original.body)
          }
          yield* close
        }),
      { arbitrary: { runs: 100 } }
    )
  }

  const parts = ["key", "attributes", "headers", "readAttribute", "readText"] as const
  for (const part of parts) {
    for (
      const [watched, batch] of [[false, undefined], [true, undefined], [false, { size: 5 }], [true, {
        size: 5
      }]] as const
    ) {
      const how = `${watched ? "watched" : "unwatched"}, ${batch === undefined ? "one by one" : "in a batch"}`
      it.effect(`whose ${part} cannot be read is put aside: ${how}`, () =>
        Effect.gen(function*() {
          const subscriber = new FakeSubscriber()
          const broker = new RecordingBroker()
          const outcomes: Array<string> = []
          yield* open(
            EventConsumer.layer(Orders, { group: "group", dedupe: true, batch }).pipe(
              Layer.provide(ordersFlow(() => Effect.void)),
              Layer.provide([subscriber.layer, broker.layer, Inbox.layerMemory()]),
              Layer.provide([
                new RecordingLogger("None").layer,
                watched
                  ? Layer.merge(
                    FlowObserver.layer(
                      FlowObserver.make({ deliveryEnded: (_, outcome) => void outcomes.push(outcome) })
                    ),
                    Telemetry.layer({ metrics: true })
                  )
                  : Layer.empty
              ])
            )
          )
          const good = order(1)
          const bad: Message.Message = {
            topic: "orders",
            key: undefined,
            attributes: good.attributes,
            headers: {},
            body: new TextEncoder().encode("x")
          }
          yield* subscriber.deliver(bad)
          // Once the subscriber has looked at it
          Object.defineProperty(bad, part, {
            get: () => {
              throw new RangeError("out of bounds")
            }
          })
          yield* subscriber.deliver(good)
          yield* settled
          assert.strictEqual(subscriber.log.length, 2)
          assert.strictEqual(broker.batches.length, 1)
          assert.deepStrictEqual(broker.batches[0]![0]!.body, bad.body)
          // A batch that failed holds its messages, to handle them in smaller ones
          const ends = outcomes.filter((outcome) => outcome !== "held").toSorted()
          if (watched) assert.deepStrictEqual(ends, ["dead_lettered", "handled"])
        }))
    }
  }

  for (const Reason of [Broker.MessageTooLarge, Broker.Rejected, Broker.EncodeFailed]) {
    it.effect(`whose dead letter is refused loses its headers, and not its consumer: ${Reason.name}`, () =>
      Effect.gen(function*() {
        const refuse = (messages: ReadonlyArray<Message.Message>) =>
          "own" in messages[0]!.headers
            ? Effect.fail(publishError(new Reason({ detail: "too large" })))
            : Effect.void
        const { broker, deliver, log } = yield* setup({ publish: refuse }, () => Effect.die("bug"))
        yield* deliver(order(1, {
          headers: { own: "x", "dead-letter-long": "y".repeat(2_000), "dead-letter-group": "before" },
          attributes: { long: "z".repeat(2_000), short: "z" }
        }))
        yield* adjust(0)
        assert.deepStrictEqual(log, ["ack 1"])
        const [, [letter]] = broker.batches as [unknown, ReadonlyArray<Message.Message>]
        assert.strictEqual(letter!.headers["dead-letter-without"], "own, dead-letter-long, long")
        assert.strictEqual(letter!.headers["dead-letter-group"], "group")
        assert.strictEqual(letter!.headers["dead-letter-reason"], "HandlerDied")
        assert.deepStrictEqual({ ...letter!.attributes }, { id: "1", type: "Ordered.v1", short: "z" })
      }))
  }

  for (const decision of ["dead-lettered", "postponed"] as const) {
    it.effect(`that leaves no room for anything else is dead-lettered as it came, also where it was to be ${decision}`, () =>
      Effect.gen(function*() {
        const sizeOf = (message: Message.Message) =>
          [...Object.entries(message.headers), ...Object.entries(message.attributes)].flat().join("").length
        const sent = order(1, { headers: { own: "x" } })
        const refuse = (messages: ReadonlyArray<Message.Message>) =>
          sizeOf(messages[0]!) > sizeOf(sent)
            ? Effect.fail(publishError(new Broker.MessageTooLarge({ detail: "too large" })))
            : Effect.void
        const { broker, deliver, log, logger } = yield* setup(
          {
            publish: refuse,
            policy: () =>
              decision === "postponed"
                ? ConsumerPolicy.postpone({ topic: "later", step: 1, delay: 1 })
                : ConsumerPolicy.deadLetter()
          },
          () => Effect.die("bug")
        )
        yield* deliver(sent, order(2, { headers: { own: "x" } }))
        yield* adjust("1 minute")
        assert.deepStrictEqual(log.toSorted(), ["ack 1", "ack 2"])
        const letter = broker.batches.flat().filter(({ topic }) => topic === "orders.dead-letter").find((letter) =>
          letter.attributes["id"] === "1" && sizeOf(letter) <= sizeOf(sent)
        )
        assert.deepStrictEqual({ ...letter!.headers }, { own: "x" })
        assert.deepStrictEqual([letter!.attributes, letter!.body], [sent.attributes, sent.body])
        assert.isTrue(logger.entries.some((entry) => entry.startsWith("Warn Dead-lettered message 1")))
      }))
  }
})
