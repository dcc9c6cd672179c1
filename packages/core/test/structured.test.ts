/** CloudEvents in structured mode: read from messages of the official SDKs and of our own, written, and refused. */
import { assert, describe, it } from "@effect/vitest"
import {
  Broker,
  BrokerLayer,
  Command,
  ConsumedMessage,
  EventConsumer,
  EventFlow,
  EventHandler,
  Inbox,
  Mediator,
  MemoryBroker,
  Message,
  MessageCodec,
  NotificationEvent,
  Upcast
} from "@event-flow/core"
import { Effect, Exit, Layer, Schema } from "effect"
import { readFileSync } from "node:fs"
import { RecordingBroker, RecordingLogger } from "./fixtures.ts"

class OrderPlaced extends NotificationEvent.Class<OrderPlaced>()("OrderPlaced", {
  id: Schema.String,
  items: Schema.Int,
  note: Schema.String
}, { topic: "orders", type: "com.example.order.placed" }) {}

const known = new Map([["OrderPlaced", OrderPlaced]])
const codec = MessageCodec.cloudEvents()
const encoder = new TextEncoder()

interface Foreign {
  readonly headers: Readonly<Record<string, unknown>>
  readonly body: string
}

const messageOf = ({ body, headers }: Foreign): Message.Message =>
  Message.make({
    topic: "orders",
    ...BrokerLayer.fromHeaders(Object.entries(headers).map(([name, value]) => [name, String(value)]), ["ce_"]),
    body: Uint8Array.from(Buffer.from(body, "base64"))
  })

const placed = new OrderPlaced({ id: "order-7", items: 2, note: "Grüße 🛫" })

describe("messages of the official SDKs", () => {
  // Made by the programs beside them
  for (const sdk of ["javascript", "python"]) {
    const file = new URL(`./fixtures/cloudEvents/${sdk}.json`, import.meta.url)
    for (const [name, foreign] of Object.entries<Foreign>(JSON.parse(readFileSync(file, "utf8")))) {
      it.effect(`${sdk}: ${name}`, () =>
        Effect.gen(function*() {
          const exit = yield* Effect.exit(codec.decode(messageOf(foreign), known))
          if (name.endsWith("none")) return assert.isTrue(Exit.isFailure(exit), "it has no data")
          assert.deepStrictEqual(exit, Exit.succeed(placed))
        }))
    }
  }
})

const envelope = (changes: object = {}) => ({
  specversion: "1.0",
  id: "e-1",
  type: "com.example.order.placed",
  source: "/shop",
  datacontenttype: "application/json",
  correlationid: "c-1",
  tenant: "acme",
  priority: 3,
  data: { id: "order-7", items: 2, note: "Grüße 🛫" },
  ...changes
})

const structured = (body: unknown, options: {
  readonly contentType?: string
  readonly attributes?: Readonly<Record<string, string>>
} = {}) =>
  Message.make({
    topic: "orders",
    attributes: { datacontenttype: options.contentType ?? "application/cloudevents+json", ...options.attributes },
    headers: { own: "header" },
    body: encoder.encode(typeof body === "string" ? body : JSON.stringify(body))
  })

/** The attributes of an event are in headers too, which say another thing than the body about the data. */
const withHeaders = { type: "com.example.order.placed", id: "header", specversion: "1.0" }

describe("a message in structured mode", () => {
  it.effect("is decoded from its envelope, with and without the same as headers, whatever the case and charset", () =>
    Effect.gen(function*() {
      for (const contentType of ["application/cloudevents+json", "Application/CloudEvents+JSON; charset=UTF-8"]) {
        for (const attributes of [{}, withHeaders]) {
          const message = structured(envelope(), { contentType, attributes })
          assert.deepStrictEqual(yield* codec.decode(message, known), placed)
        }
      }
    }))

  it.effect("is never taken for its data, also where that would fit", () =>
    Effect.gen(function*() {
      // Every field of this event is in the envelope
      class Ping extends NotificationEvent.Class<Ping>()("Ping", {
        id: Schema.String,
        note: Schema.optionalKey(Schema.String)
      }, { topic: "orders" }) {}
      const data = { id: "order-42", note: "important" }
      const message = structured(envelope({ type: "Ping.v1", data }), { attributes: { type: "Ping.v1" } })
      assert.deepStrictEqual(yield* codec.decode(message, new Map([["Ping", Ping]])), new Ping(data))
    }))

  const broken: ReadonlyArray<readonly [string, Message.Message, RegExp]> = [
    ["a batch", structured([envelope()], { contentType: "application/cloudevents-batch+json" }), /it is a batch/],
    [
      "Avro",
      structured("x", { contentType: "application/cloudevents+avro" }),
      /format "application\/cloudevents\+avro"/
    ],
    ["no JSON", structured("{"), /no JSON/],
    ["no object", structured("[]"), /no object/],
    ["no text", Message.copy(structured(""), { body: new Uint8Array([0xff]) }), /no JSON/],
    ["another specversion", structured(envelope({ specversion: "0.3" })), /specversion is 0.3/],
    ["no specversion", structured(envelope({ specversion: null })), /specversion is missing/],
    ["an attribute that is an object", structured(envelope({ tenant: {} })), /"tenant"/],
    ["data twice", structured(envelope({ data_base64: "AAAA" })), /both data and data_base64/],
    ["broken base64", structured(envelope({ data: null, data_base64: "?" })), /no base64/],
    ["base64 that is no text", structured(envelope({ data: null, data_base64: 1 })), /no base64/]
  ]
  for (const [what, message, detail] of broken) {
    for (const attributes of [{}, withHeaders]) {
      it.effect(`is refused: ${what}, ${attributes === withHeaders ? "with" : "without"} headers`, () =>
        Effect.gen(function*() {
          const error = yield* Effect.flip(codec.decode(
            Message.copy(message, { attributes: { ...attributes, ...message.attributes } }),
            known
          ))
          assert.strictEqual(error.reason, "InvalidEnvelope")
          assert.match(error.detail, detail)
        }))
    }
  }

  it.effect("through a consumer: found a duplicate by its own id, correlated, and dead-lettered as it came", () =>
    Effect.gen(function*() {
      const seen: Array<ConsumedMessage.ConsumedMessage | undefined> = []
      const Bill = EventHandler.make("Bill", { on: OrderPlaced, emits: [OrderPlaced] })
      const consumer = EventConsumer.layer([Bill], { group: "group", dedupe: true, outage: false }).pipe(
        Layer.provide(Bill.toLayer(Effect.fnUntraced(function*({ id }) {
          seen.push(yield* ConsumedMessage.current)
          if (id === "bad") return yield* Effect.die("bug")
        }))),
        Layer.provide(Inbox.layerMemory()),
        Layer.provideMerge(MemoryBroker.layer()),
        Layer.provideMerge(new RecordingLogger().layer)
      )
      yield* Effect.gen(function*() {
        const { publish } = yield* Broker.Broker
        const memory = yield* MemoryBroker.MemoryBroker
        const bad = structured(envelope({ id: "e-2", data: { id: "bad", items: 1, note: "" } }))
        yield* publish([structured(envelope()), structured(envelope()), bad])
        yield* memory.awaitIdle
        assert.strictEqual(seen.length, 2, "the second was dropped")
        const { message } = seen[0]!
        assert.deepStrictEqual({ ...message.attributes }, {
          specversion: "1.0",
          id: "e-1",
          type: "com.example.order.placed",
          source: "/shop",
          datacontenttype: "application/json",
          correlationid: "c-1",
          tenant: "acme",
          priority: "3"
        })
        assert.deepStrictEqual(message.headers, { own: "header" })
        const [letter] = yield* memory.messages("orders.dead-letter")
        assert.deepStrictEqual([letter!.attributes, letter!.body], [bad.attributes, bad.body])
      }).pipe(Effect.provide(consumer))
    }))
})

describe("published in structured mode", () => {
  class Place extends Command.Class<Place>()("Place", { emits: [OrderPlaced] }) {}
  class Shop extends EventFlow.make("Shop", { commands: [Place] }) {}

  it.effect("is one document, with the same attributes as headers, and is read back", () =>
    Effect.gen(function*() {
      const broker = new RecordingBroker()
      const layer = Shop.layer({ source: "/shop", contentMode: "structured" }).pipe(
        Layer.provide([Place.toLayer((_, { collect }) => collect(placed)), broker.layer])
      )
      yield* Mediator.send(new Place()).pipe(Effect.provide(layer))
      const [message] = broker.batches[0]!
      const { data, ...attributes } = JSON.parse(new TextDecoder().decode(message!.body!))
      assert.deepStrictEqual(data, { id: "order-7", items: 2, note: "Grüße 🛫" })
      assert.deepStrictEqual({ ...message!.attributes }, {
        ...attributes,
        datacontenttype: "application/cloudevents+json; charset=UTF-8"
      })
      assert.strictEqual(attributes.datacontenttype, "application/json")
      assert.strictEqual(attributes.source, "/shop")
      assert.deepStrictEqual(yield* codec.decode(message!, known), placed)
    }))
})

describe("a type that another program has named", () => {
  const V1 = Schema.Struct({ n: Schema.String })
  class Counted extends NotificationEvent.Class<Counted>()("Counted", { n: Schema.Int }, {
    topic: "t",
    version: 2,
    type: (version) => version === 1 ? "com.example.counted" : `com.example.counted/${version}`,
    upcast: Upcast.from(V1).toCurrent(({ n }) => ({ n: Number(n) }))
  }) {}
  const decode = (type: string, body: string) =>
    codec.decode(
      Message.make({ topic: "t", attributes: { type }, body: encoder.encode(body) }),
      new Map<string, NotificationEvent.AnyClass>([["Counted", Counted], ["OrderPlaced", OrderPlaced]])
    )

  it.effect("is read and written, each version under its own", () =>
    Effect.gen(function*() {
      assert.deepStrictEqual(yield* decode("com.example.counted/2", "{\"n\":1}"), new Counted({ n: 1 }))
      assert.deepStrictEqual(yield* decode("com.example.counted", "{\"n\":\"1\"}"), new Counted({ n: 1 }))
      assert.strictEqual(MessageCodec.typeOf(Counted), "com.example.counted/2")
      assert.strictEqual(MessageCodec.typeOf(OrderPlaced), "com.example.order.placed")
      const reason = (type: string) => Effect.map(Effect.flip(decode(type, "{}")), (error) => error.reason)
      assert.strictEqual(yield* reason("Counted.v2"), "UnknownType")
      assert.strictEqual(yield* reason("com.example.order.placed.v2"), "UnknownVersion")
    }))

  it("is a text that is not empty, and one for each version that is read", () => {
    const define = (options: object) => NotificationEvent.Class<object>()("X", {}, { topic: "t", ...options })
    assert.throws(() => define({ type: "" }), /type is empty/)
    assert.throws(
      () => define({ type: () => "x", version: 2, upcast: Upcast.from(V1).toCurrent(() => ({})) }),
      /two versions have one type/
    )
  })

  it.effect("is that of one event in a consumer", () =>
    Effect.gen(function*() {
      class Other extends NotificationEvent.Class<Other>()("Other", {}, { topic: "t", type: "com.example.counted" }) {}
      const Both = EventHandler.make("Both", { on: [Counted, Other] })
      const exit = yield* Effect.exit(Effect.scoped(Layer.build(
        EventConsumer.layer([Both], { group: "group" }).pipe(
          Layer.provide(Both.toLayer(() => Effect.void)),
          Layer.provide(MemoryBroker.layer())
        )
      )))
      assert.match(
        String(
          Exit.isFailure(exit) && exit.cause.reasons[0] && "error" in exit.cause.reasons[0]
            ? exit.cause.reasons[0].error
            : exit
        ),
        /Two event classes have the CloudEvents type "com.example.counted": "Counted", and "Other"/
      )
    }))
})
