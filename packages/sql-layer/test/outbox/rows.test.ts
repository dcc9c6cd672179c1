/** What `Outbox.layer` writes, and that a relay reads back what was published. */
import { assert, it, layer } from "@effect/vitest"
import { Broker, BrokerLayer, Mediator, Message } from "@event-flow/core"
import { RecordingBroker } from "@event-flow/core/testing"
import { Outbox, OutboxRelay, Tables } from "@event-flow/sql-layer"
import { Array as Arr, Effect, Layer, Schema } from "effect"
import { SqlClient } from "effect/sql"
import {
  Announced,
  announced,
  database,
  flow,
  needsSql,
  OnChecked,
  onChecked,
  OnPlaced,
  onPlaced,
  Orders,
  Place,
  place,
  PlaceSerializably,
  recorder
} from "../support/orders.ts"
import { encoder, message, over, plain, put } from "../support/outbox.ts"
import { withServer } from "../support/support.ts"

const send = Mediator.send(new Place({ id: "a" }))

/** Through the table and a relay; in the order in which they were published. */
const through = (messages: ReadonlyArray<Message.Message>) =>
  Effect.gen(function*() {
    const numbered = messages.map((message, i) =>
      Message.copy(message, { attributes: { ...message.attributes, position: String(i) } })
    )
    const outbox = recorder()
    const [first, ...others] = numbered
    if (first !== undefined) yield* put(first, ...others)
    yield* outbox.drain
    return outbox.messages
      .toSorted((a, b) => Number(a.attributes["position"]) - Number(b.attributes["position"]))
      .map((message) => {
        const { position, ...attributes } = message.attributes
        assert.isDefined(position)
        return plain(Message.copy(message, { attributes }))
      })
  })

const direct = Orders.layer().pipe(
  Layer.provide([Place.toLayer(needsSql, place), PlaceSerializably.toLayer(needsSql, place)]),
  Layer.provide([OnPlaced.toLayer(needsSql, onPlaced), OnChecked.toLayer(needsSql, onChecked)]),
  Layer.provideMerge(RecordingBroker.layer),
  Layer.provideMerge(database())
)

withServer("a row of the outbox", () => {
  it.live("has all columns as documented", () =>
    Effect.gen(function*() {
      yield* send
      const sql = yield* SqlClient.SqlClient
      const rows = yield* sql<Record<string, unknown>>`
        SELECT *, created_at BETWEEN now() - interval '1 minute' AND now() AS "isNew",
          pg_typeof(id)::text AS "idType"
        FROM event_flow_outbox ORDER BY id LIMIT 1
      `
      const { attributes, body, created_at: _, id, slot, ...row } = rows[0]!
      assert.strictEqual(id, 1n)
      assert.isTrue(Number.isInteger(slot) && Number(slot) >= 0 && Number(slot) < 64)
      assert.deepStrictEqual(row, {
        topic: "orders",
        key: "a handler",
        key_bytes: null,
        headers: null,
        state: "pending",
        attempts: 0,
        next_attempt_at: null,
        published_at: null,
        last_error: null,
        isNew: true,
        idType: "bigint"
      })
      assert.deepStrictEqual(JSON.parse(new TextDecoder().decode(body as Uint8Array)), { id: "a handler" })
      const { id: messageId, time, ...rest } = attributes as Record<string, string>
      assert.match(messageId!, /^[0-9a-f]{8}-[0-9a-f]{4}-7/)
      assert.isFalse(Number.isNaN(Date.parse(time!)))
      assert.deepInclude(rest, {
        specversion: "1.0",
        type: "Announced.v1",
        subject: "a handler",
        datacontenttype: "application/json"
      })
    }).pipe(Effect.provide(flow())))

  it.live("is of the same attributes as a message that goes to a broker directly", () =>
    Effect.gen(function*() {
      const outbox = recorder()
      yield* Effect.andThen(send, outbox.drain).pipe(Effect.provide(flow()))
      const published = yield* Effect.andThen(send, RecordingBroker.RecordingBroker.use(({ published }) => published))
        .pipe(
          Effect.provide(direct)
        )
      const constant = (messages: ReadonlyArray<Message.Message>) =>
        messages.map(plain).map((
          { attributes: { causationid, correlationid, id, time, traceparent, ...rest }, ...all }
        ) => ({
          ...all,
          attributes: rest,
          has: [causationid, correlationid, id, time, traceparent].map((value) => value !== undefined)
        })).sort((a, b) => String(a.key) < String(b.key) ? -1 : 1)
      assert.strictEqual(published.length, 3)
      assert.deepStrictEqual(constant(outbox.messages), constant(published))
      // One flow
      assert.strictEqual(new Set(outbox.messages.map((message) => message.attributes["correlationid"])).size, 1)
    }))

  it.live("stands in the order of publishing, which is that of the ids", () =>
    Effect.gen(function*() {
      const sql = yield* SqlClient.SqlClient
      const keys = Array.from({ length: 2000 }, (_, i) => `k${(i * 7919) % 2000}`)
      yield* put(...keys.map((key) => message({ key })) as unknown as Arr.NonEmptyReadonlyArray<Message.Message>)
      yield* put(message({ key: "last" }))
      const rows = yield* sql<{ key: string }>`SELECT key FROM event_flow_outbox ORDER BY id`
      assert.deepStrictEqual(rows.map((row) => row.key), [...keys, "last"])
    }).pipe(Effect.provide(over())))

  it.live("is inserted with all adjacent notifications in one statement", () =>
    Effect.gen(function*() {
      const sql = yield* SqlClient.SqlClient
      yield* sql`CREATE SEQUENCE inserts`
      yield* sql.unsafe(`CREATE FUNCTION counted() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN PERFORM nextval('inserts'); RETURN NULL; END $$`)
      yield* sql`CREATE TRIGGER counted AFTER INSERT ON event_flow_outbox FOR EACH STATEMENT EXECUTE FUNCTION counted()`
      yield* send
      assert.deepStrictEqual(yield* announced, Array.from({ length: 10 }, (_, i) => String(i)))
      assert.deepStrictEqual(yield* sql`SELECT last_value::int AS inserts FROM inserts`, [{ inserts: 1 }])
    }).pipe(Effect.provide(flow({
      place: (_, { collectAll }) =>
        Effect.as(collectAll(Array.from({ length: 10 }, (_, i) => new Announced({ id: String(i) }))), "a")
    }))))

  it.live("of one key is always in one slot; without a key they are spread", () =>
    Effect.gen(function*() {
      const sql = yield* SqlClient.SqlClient
      for (let i = 0; i < 5; i++) yield* put(message({ key: "k" }), message({ key: encoder.encode("k") }))
      yield* put(...Arr.makeBy(200, (i) => message({ attributes: { id: `id ${i}` } })))
      const slots = yield* sql<{ key: string | null; slots: number }>`
        SELECT key, count(DISTINCT slot)::int AS slots FROM event_flow_outbox GROUP BY key ORDER BY key NULLS LAST
      `
      assert.deepStrictEqual(slots.slice(0, 2), [{ key: "0x6b", slots: 1 }, { key: "k", slots: 1 }])
      assert.isAtLeast(slots[2]!.slots, 50)
    }).pipe(Effect.provide(over())))

  it.live("is in a table of another name, in a schema of its own", () =>
    Effect.gen(function*() {
      const sql = yield* SqlClient.SqlClient
      yield* put(message())
      assert.deepStrictEqual(yield* sql`SELECT topic FROM "my app"."out""box"`, [{ topic: "t" }])
    }).pipe(Effect.provide(
      Outbox.layer().pipe(
        Layer.provide(Layer.effectDiscard(Effect.gen(function*() {
          const sql = yield* SqlClient.SqlClient
          yield* sql`CREATE SCHEMA "my app"`
          yield* sql`CREATE TABLE "my app"."out""box" (LIKE event_flow_outbox INCLUDING ALL)`
        }))),
        Layer.provide(Tables.layer({ outbox: "my app.out\"box" })),
        Layer.provideMerge(database())
      )
    )))
})

// The relay needs a clock that runs
const readable = layer(over(), { excludeTestServices: true })

withServer("what a relay reads", () => {
  readable("is what was published", (it) => {
    const keys: Record<string, Message.Message["key"]> = {
      none: undefined,
      text: "key",
      "empty text": "",
      "no bytes": new Uint8Array(),
      bytes: Uint8Array.of(0, 1, 254, 255),
      "text with NUL": "a\0b",
      "half of a surrogate pair": "a\ud83d",
      "the other half": "\ude00b",
      "both, whole": "😀",
      "text that looks like bytes": "0x6b6579",
      "bytes of that text": encoder.encode("key"),
      long: "x".repeat(100_000)
    }
    for (const [name, key] of Object.entries(keys)) {
      it.effect(`with its key: ${name}`, () =>
        Effect.gen(function*() {
          const sent = message({ key })
          assert.deepStrictEqual(yield* through([sent]), [plain(sent)])
        }))
    }

    it.effect("with its headers and attributes", () =>
      Effect.gen(function*() {
        const sent = message({
          headers: {
            text: "ü",
            empty: "",
            bytes: Uint8Array.of(0, 255),
            none: new Uint8Array(),
            "with NUL": "a\0b",
            nothing: null,
            twice: ["1", null, Uint8Array.of(255), "1"]
          },
          attributes: { id: "1", subject: "a\0b", half: "\ud83d", "": "empty name" }
        })
        assert.deepStrictEqual(yield* through([sent]), [plain(sent)])
      }))

    for (const [name, size] of [["empty", 0], ["large", 5_000_000]] as const) {
      it.effect(`with its body: ${name}`, () =>
        Effect.gen(function*() {
          const body = Uint8Array.from({ length: size }, (_, i) => (i * 31) % 256)
          const [read] = yield* through([message({ body })])
          assert.isTrue(Buffer.from(read!.body!).equals(body))
        }))
    }

    const characters = ["a", "ü", "\0", "\ud83d", "\ude00", "0x", "\"", "'", "{", ",", "NULL", "\n"] as const
    const Text = Schema.Array(Schema.Literals([...characters, "\\"])).check(Schema.isMaxLength(4))
    // Without a backslash: JSON.parse of Node 24 may read {"":1,"\\n":1} as {"":1,"\\\\":1} once it has seen the latter
    const Name = Schema.Union([
      Schema.Array(Schema.Literals(characters)).check(Schema.isMaxLength(4)),
      Schema.Tuple([Schema.Literals(["__proto__", "constructor", "toString", "toJSON"])])
    ])
    const Bytes = Schema.Array(Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 255 }))).check(
      Schema.isMaxLength(8)
    )
    const Value = Schema.Union([Text, Bytes])
    const Any = Schema.Struct({
      topic: Schema.Literals(["t", "topic.two", "ü"]),
      key: Schema.Union([Schema.Undefined, Value]),
      attributes: Schema.Array(Schema.Tuple([Name, Text])).check(Schema.isMaxLength(3)),
      headers: Schema.Array(Schema.Tuple([Name, Schema.Union([Schema.Null, Value])])).check(Schema.isMaxLength(4)),
      body: Schema.NullOr(Bytes)
    })
    const isBytes = (value: typeof Value.Type): value is typeof Bytes.Type => typeof value[0] === "number"
    const valueOf = (value: typeof Value.Type) => isBytes(value) ? Uint8Array.from(value) : value.join("")

    it.effect.prop(
      "whatever it is",
      [Schema.Array(Any).check(Schema.isMaxLength(6))],
      ([all]) =>
        Effect.gen(function*() {
          const sent = all.map(({ attributes, body, headers, key, topic }) => {
            const added = BrokerLayer.emptyRecord<Message.Headers[string]>()
            for (const [name, value] of headers) {
              // A name that comes again has one more value
              BrokerLayer.addHeader(added, name.join(""), value === null ? null : valueOf(value))
            }
            return Message.make({
              topic,
              key: key === undefined ? undefined : valueOf(key),
              attributes: Object.fromEntries(attributes.map(([name, value]) => [name.join(""), value.join("")])),
              headers: added,
              body: body === null ? null : Uint8Array.from(body)
            })
          })
          assert.deepStrictEqual(yield* through(sent), sent.map(plain))
        }),
      { arbitrary: { runs: 100 }, timeout: 100_000 }
    )
  })
})

withServer("a relay", () => {
  it.live("lets a row wait whose key is longer than an index takes, and goes on with others", () =>
    Effect.gen(function*() {
      // Incompressible: the database would make repetition fit
      const key = Array.from({ length: 4000 }, (_, i) => String.fromCodePoint(0x4e00 + (i * 7919) % 20_000)).join("")
      const published: Array<string> = []
      const relay = OutboxRelay.layerManual().pipe(Layer.provide(
        Layer.succeed(Broker.Broker)({
          name: "fake",
          publish: (messages) => {
            const bad = messages.find(({ topic }) => topic === "bad")
            if (bad !== undefined) return Effect.fail(Broker.publishError(bad, new Broker.Rejected({ detail: "no" })))
            return Effect.sync(() => published.push(...messages.map(({ topic }) => topic)))
          }
        })
      ))
      yield* put(message({ topic: "bad", key }), message({ topic: "good", key }))
      assert.strictEqual(yield* Effect.provide(OutboxRelay.drainNow, relay), 1)
      yield* put(message({ topic: "bad", key }))
      assert.strictEqual(yield* Effect.provide(OutboxRelay.drainNow, relay), 0)
      assert.deepStrictEqual(published, ["good"])
    }).pipe(Effect.provide(over())))
})
