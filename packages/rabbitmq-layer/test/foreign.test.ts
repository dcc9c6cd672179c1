/** Messages of other clients, whatever their headers and bytes: none of them ends a consumer, or its connection. */
import { assert, it } from "@effect/vitest"
import { BrokerLayer, EventConsumer, EventHandler, Message, NotificationEvent, Subscriber } from "@event-flow/core"
import type { ConfirmChannel } from "amqplib"
import { Arbitrary, Effect, Layer, Schema } from "effect"
import type { Duplex } from "node:stream"
import { eventually, layers, rawChannel, silently, unique, withServer } from "./support/rabbit.ts"

const between = (minimum: number, maximum: number) => Schema.Int.check(Schema.isBetween({ minimum, maximum }))
const typed = <Type extends string, S extends Schema.Constraint>(type: Type, value: S) =>
  Schema.Struct({ "!": Schema.Literal(type), value })

/** Every type of a field that RabbitMQ knows, as amqplib is told of it. */
const Scalar = Schema.Union([
  Schema.Null,
  Schema.Boolean,
  Schema.String,
  Schema.Struct({ bytes: Schema.Array(between(0, 255)).check(Schema.isMaxLength(8)) }),
  typed("int8", between(-128, 127)),
  typed("uint8", between(0, 255)),
  typed("int16", between(-(2 ** 15), 2 ** 15 - 1)),
  typed("uint16", between(0, 2 ** 16 - 1)),
  typed("int32", between(-(2 ** 31), 2 ** 31 - 1)),
  typed("uint32", between(0, 2 ** 32 - 1)),
  typed("int64", between(Number.MIN_SAFE_INTEGER, Number.MAX_SAFE_INTEGER)),
  // The server closes the connection of who publishes what is no number
  typed("float", Schema.Number.check(Schema.isBetween({ minimum: -1e30, maximum: 1e30 }))),
  typed("double", Schema.Number.check(Schema.isFinite())),
  typed("timestamp", between(0, Number.MAX_SAFE_INTEGER)),
  typed("decimal", Schema.Struct({ places: between(0, 255), digits: between(0, 2 ** 32 - 1) }))
])
const Name = Schema.Union([
  Schema.Literals(["__proto__", "constructor", "toString", "hasOwnProperty", "toJSON", "length", "x", "ü", ""]),
  Schema.Literals([
    "cloudEvents:__proto__",
    "cloudEvents:time",
    "cloudEvents_subject",
    "cloudEvents:",
    "event-flow-key"
  ]),
  Schema.Literals(["event-flow-retry-group", "event-flow-retry-step", "dead-letter-reason", "x-death", "CC", "BCC"]),
  // Under this name amqplib takes the type of a field
  Schema.String.check(Schema.isMaxLength(20), Schema.makeFilter((name) => name !== "!"))
])
const Entries = Schema.Array(Schema.Tuple([Name, Scalar])).check(Schema.isMaxLength(3))
const Field = Schema.Union([
  Scalar,
  Schema.Struct({ table: Entries, inner: Entries }),
  Schema.Struct({ list: Schema.Array(Scalar).check(Schema.isMaxLength(3)), inner: Entries })
])
const Foreign = Schema.Struct({
  isGood: Schema.Boolean,
  type: Schema.Union([Schema.Literals(["Note.v2", "__proto__.v1", "constructor"]), Field]),
  body: Schema.Array(between(0, 255)).check(Schema.isMaxLength(20)),
  headers: Schema.Array(Schema.Tuple([Name, Field])).check(Schema.isMaxLength(6))
})

/** Half of a surrogate pair has no encoding. */
const wellFormed = (text: string): string => Buffer.from(text).toString()

const scalar = (value: typeof Scalar.Type): unknown =>
  typeof value === "string" ?
    wellFormed(value) :
    typeof value === "object" && value !== null && "bytes" in value
    ? Buffer.from(value.bytes)
    : value

const table = (entries: typeof Entries.Type): Record<string, unknown> =>
  Object.assign(BrokerLayer.emptyRecord<unknown>(), Object.fromEntries(entries.map(([name, v]) => [name, scalar(v)])))

/** A field as amqplib takes it. */
const field = (value: typeof Field.Type): unknown => {
  if (typeof value !== "object" || value === null || !("inner" in value)) return scalar(value)
  return "list" in value
    ? [...value.list.map(scalar), table(value.inner)]
    : Object.assign(table(value.table), { inner: table(value.inner) })
}

/** What a message says of a field whose value is kept as it is; undefined for what becomes a text. */
const kept = (value: unknown): string | null | undefined =>
  value === null || typeof value === "string" ? value : Buffer.isBuffer(value) ? value.toString("hex") : undefined

const plainHeader = (message: Message.Message, name: string) =>
  Message.headerValues(message, name).map((value) => value instanceof Uint8Array ? kept(Buffer.from(value)) : value)

/** Names that the server or the consumer gives a meaning to. */
const isReserved = (name: string): boolean => /^(cloudevents[:_]|event-flow-|dead-letter-|x-|CC$|BCC$)/i.test(name)

const count = 1_000

/** A consumer of a topic of its own, and what became of the messages. */
const consuming = Effect.gen(function*() {
  const topic = unique("topic")
  class Note extends NotificationEvent.Class<Note>()("Note", { n: Schema.Int }, { topic }) {}
  const Handle = EventHandler.make("Handle", { on: Note })
  const handled: Array<number> = []
  yield* Layer.build(
    EventConsumer.layer([Handle], { group: "group", concurrency: 4 }).pipe(
      Layer.provide(Handle.toLayer(({ n }) => Effect.sync(() => void handled.push(n)))),
      Layer.provide(silently)
    )
  )
  const subscription = yield* Subscriber.Subscriber.use((subscriber) =>
    subscriber.subscribe({ topics: [`${topic}.dead-letter`], group: "dead", maxInFlight: 100 })
  )
  const letters: Array<Message.Message> = []
  const settled = (total: number) =>
    Effect.gen(function*() {
      yield* Effect.forkScoped(
        Effect.forever(Effect.flatMap(subscription.take, (deliveries) =>
          Effect.forEach(deliveries, ({ ack, message }) => {
            letters.push(message)
            return ack
          })))
      )
      yield* eventually("all are handled or dead-lettered", () =>
        handled.length + letters.length >= total)
    })
  return { handled, letters, settled, topic }
})

const good = (n: number) => Buffer.from(JSON.stringify({ n }))

withServer("messages of another client", () => {
  it.live("F22: each is handled or dead-lettered with what it had, and the consumer goes on", () =>
    Effect.gen(function*() {
      const { handled, letters, settled, topic } = yield* consuming
      const channel = yield* rawChannel()
      const seed = process.env["SEED"] ?? String(Date.now())
      const foreign = yield* Arbitrary.sampleEffect(Arbitrary.schema(Foreign), { count, seed, size: 8 })
      const sent = foreign.map(({ body, headers, isGood, type }, i) => {
        const fields = BrokerLayer.emptyRecord<unknown>()
        for (const [name, value] of headers) {
          // What the server takes for itself is a list of routing keys
          if (!/^(CC|BCC|x-death)$/.test(name)) fields[wellFormed(name)] = field(value)
        }
        fields["cloudEvents:type"] = isGood ? "Note.v1" : field(type)
        return { isGood, body: isGood ? good(i) : Buffer.from(body), fields, messageId: `m-${i}` }
      })
      for (const { body, fields, messageId } of sent) {
        channel.publish("event-flow", topic, body, { headers: fields, messageId })
      }
      channel.publish("event-flow", topic, good(count), { headers: { "cloudEvents:type": "Note.v1" } })
      yield* Effect.promise(() => channel.waitForConfirms())
      yield* settled(count + 1)
      const bad = sent.flatMap(({ isGood }, i) => isGood ? [] : [i])
      assert.deepStrictEqual(
        handled.toSorted((a, b) => a - b),
        [...sent.keys()].filter((i) => sent[i]!.isGood).concat(count),
        `handled, SEED=${seed}`
      )
      const numberOf = ({ attributes }: Message.Message) => Number(attributes["id"]?.slice(2))
      assert.deepStrictEqual(letters.map(numberOf).sort((a, b) => a - b), bad, `dead-lettered, SEED=${seed}`)
      for (const letter of letters) {
        const { body, fields, messageId } = sent[numberOf(letter)]!
        const what = `${messageId}, SEED=${seed}`
        assert.deepStrictEqual(Buffer.from(letter.body!), body, what)
        for (const name of Object.keys(fields).filter((name) => !isReserved(name))) {
          const value = fields[name]
          const values = Array.isArray(value) ? value : [value]
          // The client loses what is no object
          if (name === "__proto__" && (typeof value !== "object" || "!" in (value ?? {}))) continue
          const read = plainHeader(letter, name)
          assert.strictEqual(read.length, values.length, `${name} of ${what}`)
          for (const [i, one] of values.entries()) {
            const same = kept(one)
            if (same !== undefined) assert.strictEqual(read[i], same, `${name} of ${what}`)
            else assert.isString(read[i], `${name} of ${what}`)
          }
        }
      }
    }).pipe(Effect.scoped, Effect.provide(layers())))

  it.live("a name that comes twice from us is a list of the other client, and back", () =>
    Effect.gen(function*() {
      const { letters, settled, topic } = yield* consuming
      const channel = yield* rawChannel()
      channel.publish("event-flow", topic, Buffer.of(), { headers: { x: ["1", "2"], one: ["1"], none: [] } })
      yield* settled(1)
      assert.deepStrictEqual(letters[0]!.headers["x"], ["1", "2"])
      assert.strictEqual(letters[0]!.headers["one"], "1")
      assert.deepStrictEqual(letters[0]!.headers["none"], [])
    }).pipe(Effect.scoped, Effect.provide(layers())))

  it.live("one that the client cannot decode is a dead letter, and the connection stays", () =>
    Effect.gen(function*() {
      const { handled, letters, settled, topic } = yield* consuming
      const channel = yield* rawChannel()
      const send = (n: number) =>
        channel.publish("event-flow", topic, good(n), { headers: { "cloudEvents:type": "Note.v1" } })
      send(1)
      // Amqplib decodes by recursion, and has no stack for this
      publishRaw(channel, topic, good(2), nested(9_000))
      send(3)
      yield* settled(3)
      assert.deepStrictEqual(handled.toSorted(), [1, 3])
      assert.deepStrictEqual(letters.map(({ body }) => Buffer.from(body!)), [good(2)])
      assert.match(String(letters[0]!.headers["event-flow-unreadable"]), /RangeError/)
    }).pipe(Effect.scoped, Effect.provide(layers())))

  it.live("one with more headers than fit into another message is a dead letter without them", () =>
    Effect.gen(function*() {
      const { letters, settled, topic } = yield* consuming
      const channel = yield* rawChannel()
      // A frame has 131,072 bytes; amqplib encodes 65,536
      const headers = Array.from({ length: 100 }, (_, i) => text(`h${i}`, "x".repeat(1_000)))
      publishRaw(channel, topic, good(1), Buffer.concat([text("cloudEvents:type", "Other.v1"), ...headers]))
      yield* settled(1)
      assert.deepStrictEqual(Buffer.from(letters[0]!.body!), good(1))
      assert.strictEqual(letters[0]!.attributes["type"], "Other.v1")
      // RabbitMQ 4 sorts them by name
      assert.match(String(letters[0]!.headers["dead-letter-without"]), /^h0, h1, h(2|10), /)
      assert.strictEqual(letters[0]!.headers["dead-letter-reason"], "Undecodable")
    }).pipe(Effect.scoped, Effect.provide(layers())))

  it.live("one that was sent to further queues is put aside once, and goes to none of them again", () =>
    Effect.gen(function*() {
      const { handled, letters, settled, topic } = yield* consuming
      const channel = yield* rawChannel()
      const headers = { "cloudEvents:type": "Other.v1" }
      const others = [unique("other"), unique("other")]
      for (const name of ["CC", "BCC"]) {
        channel.publish("event-flow", topic, Buffer.from(name), { headers, [name]: [topic, ...others] })
        channel.publish("event-flow", others[0]!, Buffer.from(`${name} alone`), { headers, [name]: [topic] })
      }
      yield* settled(4)
      // Behind whatever came back
      for (let n = 1; n <= 20; n++) {
        channel.publish("event-flow", topic, good(n), { headers: { "cloudEvents:type": "Note.v1" } })
      }
      yield* eventually("the good ones are handled", () => handled.length === 20)
      assert.deepStrictEqual(
        letters.map(({ body }) => Buffer.from(body!).toString()).sort(),
        ["BCC", "BCC alone", "CC", "CC alone"]
      )
      // The server takes BCC out
      assert.deepStrictEqual(
        letters.flatMap((letter) => Message.headerValues(letter, "CC")).sort(),
        [topic, topic, ...others].sort()
      )
      assert.isFalse(letters.some((letter) => "dead-letter-without" in letter.headers))
    }).pipe(Effect.scoped, Effect.provide(layers())))

  it.live("one with a long id or content type is a dead letter with both", () =>
    Effect.gen(function*() {
      const { letters, settled, topic } = yield* consuming
      const channel = yield* rawChannel()
      const long = "ü".repeat(200)
      channel.publish("event-flow", topic, Buffer.of(), {
        headers: { "cloudEvents:id": long, "cloudEvents:datacontenttype": long }
      })
      yield* settled(1)
      assert.deepStrictEqual({ ...letters[0]!.attributes }, { id: long, datacontenttype: long })
    }).pipe(Effect.scoped, Effect.provide(layers())))

  it.live("attributes of every type of CloudEvents are read", () =>
    Effect.gen(function*() {
      const { letters, settled, topic } = yield* consuming
      const channel = yield* rawChannel()
      const headers = {
        "cloudEvents:time": { "!": "timestamp", value: 1_767_323_045 },
        "cloudEvents:sequence": 7,
        "cloudEvents:partial": true,
        "cloudEvents:endless": { "!": "timestamp", value: Number.MAX_SAFE_INTEGER }
      }
      channel.publish("event-flow", topic, Buffer.of(), { headers })
      yield* settled(1)
      // The last one is no time: it is kept as text
      assert.deepStrictEqual({ ...letters[0]!.attributes }, {
        time: "2026-01-02T03:04:05.000Z",
        sequence: "7",
        partial: "true",
        endless: "{\"!\":\"timestamp\",\"value\":9007199254740991}"
      })
    }).pipe(Effect.scoped, Effect.provide(layers())))
})

// --- frames, as amqplib does not write them ---

const frame = (type: number, channel: number, payload: Buffer): Buffer => {
  const bytes = Buffer.alloc(payload.length + 8)
  bytes.writeUInt8(type, 0)
  bytes.writeUInt16BE(channel, 1)
  bytes.writeUInt32BE(payload.length, 3)
  payload.copy(bytes, 7)
  bytes.writeUInt8(0xce, payload.length + 7)
  return bytes
}

const uint = (size: 2 | 4 | 8, value: number): Buffer => {
  const bytes = Buffer.alloc(size)
  bytes.writeUIntBE(value, Math.max(0, size - 6), Math.min(size, 6))
  return bytes
}

const short = (value: string): Buffer => Buffer.concat([Buffer.of(Buffer.byteLength(value)), Buffer.from(value)])

const text = (name: string, value: string): Buffer =>
  Buffer.concat([short(name), Buffer.from("S"), uint(4, Buffer.byteLength(value)), Buffer.from(value)])

/** Tables in tables, so deep. */
const nested = (depth: number): Buffer => {
  const heads: Array<Buffer> = []
  for (let i = 0, length = 0; i < depth; i++, length += 7) {
    heads.push(Buffer.concat([short("a"), Buffer.from("F"), uint(4, length)]))
  }
  return Buffer.concat(heads.reverse())
}

/** Publishes a message with these fields of its table of headers. */
const publishRaw = (channel: ConfirmChannel, topic: string, body: Buffer, fields: Buffer): void => {
  const { ch, connection } = channel as unknown as {
    readonly ch: number
    readonly connection: { readonly stream: Duplex }
  }
  const publish = [uint(2, 60), uint(2, 40), uint(2, 0), short("event-flow"), short(topic), Buffer.of(0)]
  const header = [uint(2, 60), uint(2, 0), uint(8, body.length), uint(2, 0x2000), uint(4, fields.length), fields]
  // Behind what amqplib writes in this turn
  setImmediate(() =>
    connection.stream.write(Buffer.concat([
      frame(1, ch, Buffer.concat(publish)),
      frame(2, ch, Buffer.concat(header)),
      frame(3, ch, body)
    ]))
  )
}
