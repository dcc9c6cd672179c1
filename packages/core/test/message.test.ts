/** Messages: attributes, encoding and decoding, versions. */
import { assert, describe, it } from "@effect/vitest"
import {
  Broker,
  BrokerLayer,
  Command,
  EventFlow,
  Ids,
  Mediator,
  MemoryBroker,
  Message,
  MessageCodec,
  NotificationEvent,
  Upcast
} from "@event-flow/core"
import { Cause, Clock, Effect, Equal, Exit, Layer, Option, Schema, SchemaTransformation } from "effect"
import { TestClock } from "effect/testing"
import { inspect } from "node:util"
import { setFlagsFromString } from "node:v8"
import { runInNewContext } from "node:vm"
import { FiberMessageContext } from "../src/internal/dispatch/messageContext.ts"
import { A, adjust, bodyOf, Do, flow, News, RecordingBroker } from "./fixtures.ts"

const known = (...classes: ReadonlyArray<NotificationEvent.AnyClass>) => new Map(classes.map((one) => [one.tag, one]))

const noTrace = { correlation: undefined, traceparent: undefined, tracestate: undefined, baggage: undefined }

const encode = (event: NotificationEvent.Any) =>
  Effect.gen(function*() {
    const codec = yield* MessageCodec.MessageCodec
    const clock = yield* Clock.Clock
    return yield* codec.encode(event, { clock, ids: yield* Ids.Ids, ...noTrace })
  })

const decode = (message: Message.Message, ...classes: ReadonlyArray<NotificationEvent.AnyClass>) =>
  MessageCodec.MessageCodec.use((codec) => codec.decode(message, known(...classes)))

const make = (type: string | undefined, body: string | Uint8Array) =>
  Message.make({
    topic: "topic",
    attributes: type === undefined ? { id: "1" } : { id: "1", type },
    body: typeof body === "string" ? new TextEncoder().encode(body) : body
  })

/** By `Equal`, for which the two zeros are one, as for JSON. */
const assertEqual = (actual: unknown, expected: unknown): void =>
  assert.isTrue(Equal.equals(actual, expected), `${inspect(actual)} is not ${inspect(expected)}`)

describe("attributes", () => {
  it.effect("a broker refuses a message that lost them in a copy by spread; Message.copy keeps them", () =>
    Effect.gen(function*() {
      const broker = yield* Broker.Broker
      const codec = yield* MessageCodec.MessageCodec
      const message = yield* codec.encode(new News({ n: 1 }), new FiberMessageContext(yield* Effect.context<never>()))
      const exit = yield* Effect.exit(broker.publish([{ ...message, topic: "other" }]))
      assert.match(String(Exit.isFailure(exit) && Cause.squash(exit.cause)), /use Message\.copy/)
      assert.throws(() => BrokerLayer.toHeaders({ ...message }, "ce_"), /use Message\.copy/)
      const copy = Message.copy(message, { topic: "other" })
      assert.deepStrictEqual(copy.attributes, message.attributes)
      yield* broker.publish([copy])
    }).pipe(Effect.provide(MemoryBroker.layer())))

  it.effect("are those of CloudEvents 1.0, made once, when first read, with the time of the publish", () =>
    Effect.gen(function*() {
      const broker = new RecordingBroker()
      yield* TestClock.setTime(Date.UTC(2026, 0, 2, 3, 4, 5))
      yield* Mediator.send(new Do()).pipe(
        Effect.provide(flow({ broker: broker.layer, events: [new News({ n: 1 }), new News({ n: 2 })] }))
      )
      const [first, second] = broker.batches[0]!
      yield* adjust("1 minute")
      const attributes = first!.attributes
      yield* adjust("1 minute")
      assert.strictEqual(first!.attributes, attributes)
      const { correlationid, id, ...rest } = attributes
      assert.deepStrictEqual(rest, {
        specversion: "1.0",
        type: "News.v1",
        source: "/event-flow",
        time: "2026-01-02T03:04:05.000Z",
        datacontenttype: "application/json",
        subject: "1"
      })
      const uuidV7 = /^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/
      assert.match(id!, uuidV7)
      assert.match(correlationid!, uuidV7)
      assert.notStrictEqual(second!.attributes["id"], id)
      assert.strictEqual(second!.attributes["correlationid"], correlationid)
    }))

  it.effect("ids are made by the service of whoever sends, each when it is first read, and once", () =>
    Effect.gen(function*() {
      const broker = new RecordingBroker()
      let made = 0
      yield* Mediator.send(new Do()).pipe(
        Effect.provide(flow({ broker: broker.layer, events: [new News({ n: 1 }), new News({ n: 2 })] })),
        Effect.provideService(Ids.Ids, { next: () => `id-${++made}` })
      )
      assert.strictEqual(made, 0)
      const [first, second] = broker.batches[0]!
      assert.deepInclude(second!.attributes, { id: "id-1", correlationid: "id-2" })
      assert.deepInclude(first!.attributes, { id: "id-3", correlationid: "id-2" })
      assert.deepInclude(second!.attributes, { id: "id-1", correlationid: "id-2" })
    }))

  it.effect("without a key there is no subject; source is the program's", () =>
    Effect.gen(function*() {
      class Keyless extends NotificationEvent.Class<Keyless>()("Keyless", {}, { topic: "t" }) {}
      class NoKeyToday extends NotificationEvent.Class<NoKeyToday>()("NoKeyToday", {}, {
        topic: "t",
        key: () => undefined
      }) {}
      for (const event of [new Keyless(), new NoKeyToday()]) {
        const message = yield* encode(event).pipe(
          Effect.provide(MessageCodec.layerCloudEvents({ source: "/orders" }))
        )
        assert.isUndefined(message.key)
        assert.notProperty(message.attributes, "subject")
        assert.notProperty(message.attributes, "correlationid")
        assert.strictEqual(message.attributes["source"], "/orders")
        assert.deepStrictEqual(message.headers, {})
      }
    }))

  it.effect("the flow's layer names the source; a subject is not empty", () =>
    Effect.gen(function*() {
      class Keyed extends NotificationEvent.Class<Keyed>()("Keyed", { key: Schema.String }, {
        topic: "t",
        key: ({ key }) => key
      }) {}
      const broker = new RecordingBroker()
      class Publish extends Command.Class<Publish>()("Publish", { emits: [Keyed] }) {}
      class Publishing extends EventFlow.make("Publishing", { commands: [Publish] }) {}
      for (const source of ["/orders", undefined]) {
        const layer = Publishing.layer({ source }).pipe(
          Layer.provide([
            Publish.toLayer((_, { collectAll }) => collectAll([new Keyed({ key: "" }), new Keyed({ key: "k" })])),
            broker.layer
          ])
        )
        yield* Mediator.send(new Publish()).pipe(Effect.provide(layer))
      }
      assert.deepStrictEqual(
        broker.batches.flat().map(({ attributes, key }) => [key, attributes["subject"], attributes["source"]]),
        [
          ["", undefined, "/orders"],
          ["k", "k", "/orders"],
          ["", undefined, "/event-flow"],
          ["k", "k", "/event-flow"]
        ]
      )
    }))

  it.effect("a message lets go of its publisher's context when they are made", () =>
    Effect.gen(function*() {
      setFlagsFromString("--expose-gc")
      const collectGarbage: () => void = runInNewContext("gc")
      const codec = yield* MessageCodec.MessageCodec
      const clock = yield* Clock.Clock
      const published = (isRead: boolean) =>
        Effect.suspend(() => {
          const context = { clock, ids: { next: () => "id" }, ...noTrace }
          return Effect.map(codec.encode(new News({ n: 1 }), context), (message) => {
            if (isRead) assert.isDefined(message.attributes["id"])
            return { context: new WeakRef(context), message }
          })
        })
      const read = yield* published(true)
      const unread = yield* published(false)
      // A reference lives to the end of the turn in which it was made
      yield* Effect.callback<void>((resume) => void setImmediate(() => resume(Effect.void)))
      collectGarbage()
      assert.isUndefined(read.context.deref())
      assert.isDefined(unread.context.deref())
      assert.isDefined(unread.message.attributes["id"])
    }))

  it("keys as text", () => {
    const body = new Uint8Array()
    assert.strictEqual(Message.keyString(Message.make({ topic: "t", key: "k", body })), "k")
    assert.strictEqual(Message.keyString(Message.make({ topic: "t", key: new Uint8Array([1, 255]), body })), "0x01ff")
    assert.strictEqual(Message.keyString(Message.make({ topic: "t", key: new Uint8Array([0x61]), body })), "0x61")
    assert.isUndefined(Message.keyString(Message.make({ topic: "t", body })))
  })
})

describe("round trips", () => {
  const Place = Schema.Struct({ city: Schema.String, floor: Schema.optionalKey(Schema.Int) })

  class Plain extends NotificationEvent.Class<Plain>()("Plain", {
    text: Schema.String,
    count: Schema.Int,
    ratio: Schema.Number,
    flag: Schema.Boolean,
    nothing: Schema.Null,
    kind: Schema.Literals(["a", "b"]),
    either: Schema.Union([Schema.Boolean, Schema.Number]),
    nullable: Schema.NullOr(Schema.String),
    maybe: Schema.optionalKey(Schema.String)
  }, { topic: "plain", key: ({ text }) => text }) {}

  class Rich extends NotificationEvent.Class<Rich>()("Rich", {
    at: Schema.DateFromString,
    on: Schema.Date,
    big: Schema.BigInt,
    place: Place,
    places: Schema.Array(Place),
    loose: Schema.optional(Schema.String),
    option: Schema.Option(Schema.Int),
    trimmed: Schema.String.pipe(
      Schema.decodeTo(
        Schema.String,
        SchemaTransformation.transform({ decode: (s) => s.trim(), encode: (s) => ` ${s} ` })
      )
    ),
    level: Schema.Int.pipe(Schema.withConstructorDefault(Effect.succeed(3)))
  }, { topic: "rich" }) {}

  it.effect.prop(
    "scalar fields, which need no schema pass",
    [Schema.toType(Plain)],
    ([event]) =>
      Effect.gen(function*() {
        const message = yield* encode(event)
        assertEqual(yield* decode(message, Plain), event)
        assert.strictEqual(message.key, event.text)
        // The same bytes as with a schema pass
        const { _tag, ...json } = (yield* Schema.encodeEffect(Schema.toCodecJson(Plain))(event)) as Record<
          string,
          unknown
        >
        assert.strictEqual(_tag, "Plain")
        assert.deepStrictEqual(bodyOf(message), JSON.parse(JSON.stringify(json)))
      }),
    { arbitrary: { runs: 200 } }
  )

  it.effect.prop("transformed, nested and optional fields", [Schema.toType(Rich)], ([event]) =>
    Effect.gen(function*() {
      // An invalid date has no JSON form
      if (Number.isNaN(event.at.getTime()) || Number.isNaN(event.on.getTime())) return
      // The transformation of `trimmed` keeps what has no blanks at its ends
      const { level, option, trimmed, ...rest } = event
      const sent = new Rich({ ...rest, level, option, trimmed: trimmed.trim() })
      assertEqual(yield* decode(yield* encode(sent), Rich), sent)
    }), { arbitrary: { runs: 100 } })

  it.effect("what is on the wire is the encoded form, without the tag", () =>
    Effect.gen(function*() {
      const event = new Rich({
        at: new Date(0),
        on: new Date(0),
        big: 12345678901234567890n,
        place: { city: "Köln" },
        places: [{ city: "Bern", floor: 2 }],
        option: Option.some(1),
        trimmed: "x"
      })
      const message = yield* encode(event)
      assert.deepStrictEqual(bodyOf(message), {
        at: "1970-01-01T00:00:00.000Z",
        on: "1970-01-01T00:00:00.000Z",
        big: "12345678901234567890",
        place: { city: "Köln" },
        places: [{ city: "Bern", floor: 2 }],
        option: { _tag: "Some", value: 1 },
        trimmed: " x ",
        level: 3
      })
      const back = yield* decode(message, Rich)
      assert.instanceOf(back, Rich)
      assert.deepStrictEqual(back, event)
    }))

  it.effect("numbers that are not finite", () =>
    Effect.gen(function*() {
      for (const ratio of [NaN, Infinity, -Infinity, -0, Number.MAX_VALUE, Number.MIN_VALUE]) {
        const event = new Plain({
          text: "",
          count: 1,
          ratio,
          flag: true,
          nothing: null,
          kind: "a",
          either: ratio,
          nullable: null
        })
        const back = yield* decode(yield* encode(event), Plain)
        assert.instanceOf(back, Plain)
        assert.strictEqual(String((back as Plain).ratio), String(ratio))
        assert.strictEqual(String((back as Plain).either), String(ratio))
      }
    }))

  it.effect("odd text and odd names", () =>
    Effect.gen(function*() {
      class Odd extends NotificationEvent.Class<Odd>()("Odd.v2", {
        "a \"quoted\"\nname": Schema.String,
        constructor_: Schema.String,
        "": Schema.String
      }, { topic: "odd", version: 12 }) {}
      const event = new Odd({ "a \"quoted\"\nname": "\u2028 \u0000 \"\\ 😀", constructor_: "", "": "empty" })
      const message = yield* encode(event)
      assert.strictEqual(message.attributes["type"], "Odd.v2.v12")
      assert.deepStrictEqual(yield* decode(message, Odd), event)
    }))

  it.effect("an event of no fields", () =>
    Effect.gen(function*() {
      class Empty extends NotificationEvent.Class<Empty>()("Empty", {}, { topic: "empty" }) {}
      const message = yield* encode(new Empty())
      assert.strictEqual(new TextDecoder().decode(message.body!), "{}")
      assert.deepStrictEqual(yield* decode(message, Empty), new Empty())
    }))

  it.effect("a field that is unknown to the consumer is dropped", () =>
    Effect.gen(function*() {
      assert.deepStrictEqual(yield* decode(make("News.v1", "{\"n\":1,\"later\":true}"), News), new News({ n: 1 }))
    }))

  it.effect("a value that its own schema cannot encode fails as a PublishError and is not published", () =>
    Effect.gen(function*() {
      class Stamped extends NotificationEvent.Class<Stamped>()("Stamped", {
        positive: Schema.Number.pipe(
          Schema.decodeTo(
            Schema.Number,
            SchemaTransformation.transform({ decode: (n: number) => n, encode: (n: number) => n })
          )
        ).check(Schema.isGreaterThan(0))
      }, { topic: "stamped" }) {}
      const invalid = new Stamped({ positive: -1 }, { disableChecks: true })
      const error = yield* Effect.flip(encode(invalid))
      assert.instanceOf(error, Broker.PublishError)
      assert.strictEqual(error.topic, "stamped")
      assert.strictEqual(error.messageType, "Stamped.v1")
      assert.strictEqual(error.reason._tag, "EncodeFailed")
      assert.isFalse(error.isRetryable)
    }))
})

describe("versions", () => {
  const upcast = Upcast.from(Schema.Struct({ id: Schema.String }))
    .to(Schema.Struct({ id: Schema.String, on: Schema.DateFromString }), (v1) => ({ ...v1, on: new Date(0) }))
    .toCurrent((v2) => ({ key: `${v2.id} ${v2.on.getTime()}`, seats: 0 }))

  class Announced extends NotificationEvent.Class<Announced>()("Announced", {
    key: Schema.String,
    seats: Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 10 }))
  }, { topic: "announced", version: 3, upcast }) {}

  it.effect("each older version comes up to the current one", () =>
    Effect.gen(function*() {
      const on = new Date(5).toISOString()
      assert.deepStrictEqual(
        yield* decode(make("Announced.v1", "{\"id\":\"x\"}"), Announced),
        new Announced({ key: "x 0", seats: 0 })
      )
      assert.deepStrictEqual(
        yield* decode(make("Announced.v2", JSON.stringify({ id: "x", on })), Announced),
        new Announced({ key: "x 5", seats: 0 })
      )
      const current = new Announced({ key: "now", seats: 5 })
      const message = yield* encode(current)
      assert.strictEqual(message.attributes["type"], "Announced.v3")
      assert.strictEqual(MessageCodec.typeOf(Announced), "Announced.v3")
      assert.deepStrictEqual(yield* decode(message, Announced), current)
      assert.instanceOf(yield* decode(make("Announced.v1", "{\"id\":\"x\"}"), Announced), Announced)
    }))

  const reason = (message: Message.Message, ...classes: ReadonlyArray<NotificationEvent.AnyClass>) =>
    Effect.map(Effect.flip(decode(message, ...classes)), ({ reason }) => reason)

  it.effect("a newer version, or an older one that nothing leads from, is unknown", () =>
    Effect.gen(function*() {
      const error = yield* Effect.flip(decode(make("Announced.v4", "{}"), Announced))
      assert.strictEqual(error.reason, "UnknownVersion")
      assert.strictEqual(
        error.message,
        "Message 1 of type \"Announced.v4\" on topic \"topic\" cannot be decoded: UnknownVersion: " +
          "this program knows \"Announced\" up to version 3: deploy it first"
      )
      class Second extends NotificationEvent.Class<Second>()("Second", {}, { topic: "t", version: 2 }) {}
      assert.strictEqual(yield* reason(make("Second.v1", "{}"), Second), "UnknownVersion")
      assert.strictEqual(yield* reason(make("News.v99999999999999999999", "{}"), News), "UnknownVersion")
    }))

  it.effect("an upcast that does not give a valid event is an invalid body", () =>
    Effect.gen(function*() {
      const tooMany = Upcast.from(Schema.Struct({})).toCurrent(() => ({ seats: 99 }))
      class Full extends NotificationEvent.Class<Full>()("Full", {
        seats: Schema.Int.check(Schema.isLessThan(10))
      }, { topic: "t", version: 2, upcast: tooMany }) {}
      assert.strictEqual(yield* reason(make("Full.v1", "{}"), Full), "InvalidBody")
    }))

  it.effect("an upcast that throws is a defect", () =>
    Effect.gen(function*() {
      const broken = Upcast.from(Schema.Struct({})).toCurrent((): { seats: number } => {
        throw new Error("bug")
      })
      class Broken extends NotificationEvent.Class<Broken>()("Broken", { seats: Schema.Int }, {
        topic: "t",
        version: 2,
        upcast: broken
      }) {}
      assert.isTrue(Exit.hasDies(yield* Effect.exit(decode(make("Broken.v1", "{}"), Broken))))
    }))

  it.effect("a version of a known event that is none of ours", () =>
    Effect.gen(function*() {
      for (
        const type of [
          "News",
          "News.v0",
          "News.v01",
          "News.v-1",
          "News.v1 ",
          "News.V1",
          "News.1",
          "News.v1.1",
          "News.v2"
        ]
      ) {
        assert.strictEqual(yield* reason(make(type, "{\"n\":1}"), News, Announced), "UnknownVersion", type)
      }
    }))

  it.effect("types that nobody knows", () =>
    Effect.gen(function*() {
      assert.strictEqual(yield* reason(make(undefined, "{}"), News), "NoType")
      assert.strictEqual(yield* reason(make("", "{}"), News), "NoType")
      for (const type of ["Other.v1", ".v1", "news.v1", "Newsletter", "News.letter.v1", "News.vip", "New", "News."]) {
        assert.strictEqual(yield* reason(make(type, "{\"n\":1}"), News), "UnknownType", type)
      }
      const error = yield* Effect.flip(decode(make("Other.v1", "{}"), News, Announced))
      assert.strictEqual(error.detail, "known are News.v1, Announced.v3")
    }))

  it.effect("bodies that are not what they should be", () =>
    Effect.gen(function*() {
      const bodies = ["", "{", "nonsense", "null", "1", "[]", "{}", "{\"n\":\"1\"}", "{\"n\":1.5}", "{\"n\":null}"]
      for (const body of bodies) {
        assert.strictEqual(yield* reason(make("News.v1", body), News), "InvalidBody", body)
      }
      assert.strictEqual(yield* reason(make("News.v1", new Uint8Array([0xff, 0xfe])), News), "InvalidBody")
      assert.strictEqual(yield* reason(make("Announced.v1", "{\"id\":1}"), Announced), "InvalidBody")
    }))

  it.effect("a tag in the body, of a foreign producer, does not matter", () =>
    Effect.gen(function*() {
      assert.deepStrictEqual(
        yield* decode(make("News.v1", "{\"_tag\":\"Other\",\"n\":1,\"__proto__\":{\"n\":2}}"), News),
        new News({ n: 1 })
      )
    }))
})

describe("a codec of one's own", () => {
  it.effect("is taken by the flow", () =>
    Effect.gen(function*() {
      const broker = new RecordingBroker()
      const upper = Layer.effect(
        MessageCodec.MessageCodec,
        Effect.map(MessageCodec.MessageCodec, (codec) => ({
          ...codec,
          encode: (event: NotificationEvent.Any, context: MessageCodec.MessageContext) =>
            Effect.map(codec.encode(event, context), (message) => Message.make({ ...message, topic: "REPLACED" }))
        }))
      )
      yield* Mediator.send(new Do()).pipe(
        Effect.provide(flow({ broker: broker.layer, codec: upper, events: [new A({}), new News({ n: 1 })] }))
      )
      assert.strictEqual(broker.batches[0]![0]!.topic, "REPLACED")
    }))

  it.effect("is the one that the flow was built with, whatever is in the context of a request", () =>
    Effect.gen(function*() {
      const broker = new RecordingBroker()
      yield* Mediator.send(new Do()).pipe(
        Effect.provideService(MessageCodec.MessageCodec, MessageCodec.cloudEvents({ source: "/request" })),
        Effect.provide(flow({
          broker: broker.layer,
          codec: MessageCodec.layerCloudEvents({ source: "/flow" }),
          events: [new News({ n: 1 })]
        }))
      )
      assert.strictEqual(broker.batches[0]![0]!.attributes["source"], "/flow")
    }))
})
