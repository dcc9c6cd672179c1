import asyncApiSpecs from "@asyncapi/specs"
import { assert, describe, it } from "@effect/vitest"
import {
  AsyncApi,
  Command,
  DomainEvent,
  EventHandler,
  type FlowGraph,
  MessageCodec,
  NotificationEvent,
  Upcast
} from "@event-flow/core"
import { Ajv, type Options, type ValidateFunction } from "ajv"
import { default as formats } from "ajv-formats"
import { Effect, Schema } from "effect"
import { FiberMessageContext } from "../src/internal/dispatch/messageContext.ts"

const newAjv = (options?: Options) => formats.default(new Ajv({ strict: false, allErrors: true, ...options }))

// It brings its own copy of the meta schema
const isAsyncApi = newAjv({ meta: false, validateSchema: false }).compile(asyncApiSpecs.schemas["3.0.0"] as object)

const assertValid = (validate: ValidateFunction, value: unknown) =>
  assert.isTrue(validate(value), JSON.stringify(validate.errors, null, 2))

/** Follows a pointer as AsyncAPI's tools do. */
const resolve = (document: unknown, pointer: string): unknown =>
  pointer.slice(2).split("/").reduce<unknown>(
    (value, token) =>
      (value as Record<string, unknown>)[decodeURIComponent(token).replace(/~1/g, "/").replace(/~0/g, "~")],
    document
  )

const references = (value: unknown): ReadonlyArray<string> =>
  typeof value !== "object" || value === null
    ? []
    : Object.entries(value).flatMap(([key, member]) =>
      key === "$ref" && typeof member === "string" ? [member] : references(member)
    )

/** The document, which the official schema takes, whose references all lead somewhere, and which is plain JSON. */
const make = (
  { commands, handlers, ...options }: FlowGraph.Part & Omit<Parameters<typeof AsyncApi.make>[0], "info" | "flows">
): AsyncApi.AsyncApi => {
  const document = AsyncApi.make({ info, flows: [{ commands, handlers }], ...options })
  assertValid(isAsyncApi, document)
  for (const pointer of references(document)) assert.isDefined(resolve(document, pointer), pointer)
  assert.deepStrictEqual(JSON.parse(JSON.stringify(document)), document)
  return document
}

/** The validator of a part of a document. */
const schemaAt = (document: AsyncApi.AsyncApi, ...path: ReadonlyArray<string>): ValidateFunction => {
  const ajv = newAjv()
  ajv.addSchema(document, "document")
  const pointer = path.map((token) => encodeURIComponent(token.replace(/~/g, "~0").replace(/\//g, "~1"))).join("/")
  const validate = ajv.getSchema(`document#/${pointer}`)
  assert.isDefined(validate, pointer)
  return validate!
}

const info = { title: "Meetings", version: "1.2.0" }

class Seat extends Schema.Class<Seat>("app/Seat")({ row: Schema.Int, booked: Schema.DateFromString }) {}

class UserJoined extends DomainEvent.Class<UserJoined>()("UserJoined", { userId: Schema.String }) {}

class Announced extends NotificationEvent.Class<Announced>()("Announced", {
  id: Schema.String,
  title: Schema.String,
  seats: Schema.Finite
}, {
  topic: "meetings",
  key: (event) => event.id,
  version: 3,
  upcast: Upcast.from(Schema.Struct({ id: Schema.String }))
    .to(Schema.Struct({ id: Schema.String, title: Schema.optionalKey(Schema.String) }), (v1) => v1)
    .toCurrent(({ id, title = "" }) => ({ id, title, seats: 0 }))
}) {}

class Cancelled extends NotificationEvent.Class<Cancelled>()("Cancelled", {}, { topic: "meetings" }) {}

class DelayFound extends NotificationEvent.Class<DelayFound>()("DelayFound", { since: Schema.DateFromString }, {
  topic: "delays/found"
}) {}

class Announce extends Command.Class<Announce>()("Announce", { emits: [UserJoined, Announced] }) {}
class Cancel extends Command.Class<Cancel>()("Cancel", { emits: [Cancelled, Announced] }) {}
const Greet = EventHandler.make("Greet", { on: UserJoined, emits: [Announced] })
const Board = EventHandler.make("Board", { on: DelayFound, emits: [Cancelled] })
const Mirror = EventHandler.make("Mirror", { on: Announced })

const UserId = Schema.String.annotate({ identifier: "User Id", description: "An account" })

class Comment extends Schema.Class<Comment>("Comment")({
  text: Schema.String,
  replies: Schema.Array(Schema.suspend((): Schema.Codec<Comment, unknown> => Comment))
}) {}

class Booked extends NotificationEvent.Class<Booked>()("Booked", {
  seat: Seat,
  others: Schema.Tuple([Seat, Seat]),
  by: UserId,
  at: Schema.DateFromString,
  amount: Schema.BigInt,
  parent: Comment,
  note: Schema.optional(Schema.String),
  price: Schema.optionalKey(Schema.Number),
  tag: Schema.optionalKey(Schema.String)
}, { topic: "bookings", key: (event) => event.by }) {}

class SeatFreed extends NotificationEvent.Class<SeatFreed>()("SeatFreed", {
  seat: Seat,
  flag: Schema.Boolean.annotate({ identifier: "CloudEvent" })
}, { topic: "seats" }) {}

class EmitBooked extends Command.Class<EmitBooked>()("EmitBooked", { emits: [Booked] }) {}
const Seats = EventHandler.make("Seats", { on: SeatFreed })

const header = (type: string) => ({
  allOf: [
    { $ref: "#/components/schemas/CloudEvent" },
    { type: "object", properties: { type: { type: "string", const: type } } }
  ]
})

it("the official schema finds mistakes", () => {
  const document = make({ commands: [Cancel] })
  assert.isFalse(isAsyncApi({ ...document, channels: { a: { address: 1 } } }))
  assert.isFalse(isAsyncApi({ ...document, operations: { a: { action: "emit", channel: { $ref: "#" } } } }))
  assert.isFalse(isAsyncApi({ ...document, components: { schemas: { a: { type: "text" } } } }))
})

describe("AsyncApi.make", () => {
  it("describes a flow", () => {
    const common = {
      contentType: "application/json",
      correlationId: { location: "$message.header#/correlationid" }
    }
    const keyed = { bindings: { kafka: { key: { type: "string" }, bindingVersion: "0.5.0" } } }
    const text = { type: "string" }
    assert.deepStrictEqual<unknown>(
      make({
        commands: [Announce],
        handlers: [Board, Mirror],
        group: "board",
        servers: { production: { host: "kafka.example.org:9092", protocol: "kafka", title: undefined } }
      }),
      {
        asyncapi: "3.0.0",
        info: { title: "Meetings", version: "1.2.0" },
        servers: { production: { host: "kafka.example.org:9092", protocol: "kafka" } },
        channels: {
          meetings: {
            address: "meetings",
            messages: {
              "Announced.v3": {
                name: "Announced.v3",
                ...common,
                headers: header("Announced.v3"),
                payload: {
                  type: "object",
                  properties: { id: text, title: text, seats: { type: "number" } },
                  required: ["id", "title", "seats"],
                  additionalProperties: true
                },
                ...keyed
              },
              "Announced.v2": {
                name: "Announced.v2",
                summary: "An older version of Announced",
                ...common,
                headers: header("Announced.v2"),
                payload: {
                  type: "object",
                  properties: { id: text, title: text },
                  required: ["id"],
                  additionalProperties: true
                },
                ...keyed
              },
              "Announced.v1": {
                name: "Announced.v1",
                summary: "An older version of Announced",
                ...common,
                headers: header("Announced.v1"),
                payload: { type: "object", properties: { id: text }, required: ["id"], additionalProperties: true },
                ...keyed
              },
              "Cancelled.v1": {
                name: "Cancelled.v1",
                ...common,
                headers: header("Cancelled.v1"),
                payload: { type: "object" }
              }
            }
          },
          "delays/found": {
            address: "delays/found",
            messages: {
              "DelayFound.v1": {
                name: "DelayFound.v1",
                ...common,
                headers: header("DelayFound.v1"),
                payload: {
                  type: "object",
                  properties: { since: text },
                  required: ["since"],
                  additionalProperties: true
                }
              }
            }
          }
        },
        operations: {
          sendAnnounced: {
            action: "send",
            channel: { $ref: "#/channels/meetings" },
            summary: "Emitted by Announce",
            messages: [{ $ref: "#/channels/meetings/messages/Announced.v3" }]
          },
          sendCancelled: {
            action: "send",
            channel: { $ref: "#/channels/meetings" },
            summary: "Emitted by Board",
            messages: [{ $ref: "#/channels/meetings/messages/Cancelled.v1" }]
          },
          receiveAnnounced: {
            action: "receive",
            channel: { $ref: "#/channels/meetings" },
            summary: "Handled by Mirror",
            messages: [
              { $ref: "#/channels/meetings/messages/Announced.v3" },
              { $ref: "#/channels/meetings/messages/Announced.v2" },
              { $ref: "#/channels/meetings/messages/Announced.v1" }
            ],
            bindings: { kafka: { groupId: { type: "string", const: "board" }, bindingVersion: "0.5.0" } }
          },
          receiveDelayFound: {
            action: "receive",
            channel: { $ref: "#/channels/delays~1found" },
            summary: "Handled by Board",
            messages: [{ $ref: "#/channels/delays~1found/messages/DelayFound.v1" }],
            bindings: { kafka: { groupId: { type: "string", const: "board" }, bindingVersion: "0.5.0" } }
          }
        },
        components: {
          schemas: {
            CloudEvent: {
              type: "object",
              description: "CloudEvents 1.0 attributes, in binary content mode. Brokers prefix their names: " +
                "`ce_` with Kafka, `cloudEvents:` with AMQP; `datacontenttype` is the content type of the transport",
              properties: {
                specversion: { type: "string", enum: ["1.0"] },
                id: { type: "string", description: "Unique for each message; UUID version 7" },
                type: { type: "string", description: "Tag and version of the event, the name of the message" },
                source: { type: "string", format: "uri-reference", description: "The program that published it" },
                time: { type: "string", format: "date-time" },
                datacontenttype: { type: "string", enum: ["application/json"] },
                subject: { type: "string", description: "The key: messages of one key keep their order" },
                correlationid: {
                  type: "string",
                  description: "The same for everything that one request has led to"
                },
                causationid: { type: "string", description: "What directly led to this message" },
                traceparent: { type: "string", description: "W3C Trace Context" },
                tracestate: { type: "string", description: "W3C Trace Context, of the vendors of tracers" }
              },
              required: ["specversion", "id", "type", "source", "time", "datacontenttype"],
              additionalProperties: true
            }
          }
        }
      }
    )
  })

  it("lists channels, messages and operations in the order of the definitions", () => {
    const options = { commands: [Cancel, Announce], handlers: [Greet, Board] }
    const document = make(options)
    assert.deepStrictEqual(Object.keys(document.channels), ["meetings", "delays/found"])
    assert.deepStrictEqual(Object.keys(document.channels["meetings"]!.messages), [
      "Cancelled.v1",
      "Announced.v3",
      "Announced.v2",
      "Announced.v1"
    ])
    assert.deepStrictEqual(
      Object.entries(document.operations).map(([id, { summary }]) => `${id}: ${summary}`),
      [
        "sendCancelled: Emitted by Cancel, Board",
        "sendAnnounced: Emitted by Cancel, Announce, Greet",
        "receiveDelayFound: Handled by Board"
      ]
    )
    assert.strictEqual(JSON.stringify(make(options)), JSON.stringify(document))
  })

  it("leaves out what no broker sees", () => {
    const Count = EventHandler.make("Count", { on: UserJoined })
    assert.deepStrictEqual(make({ handlers: [Count] }), {
      asyncapi: "3.0.0",
      info,
      channels: {},
      operations: {},
      components: { schemas: {} }
    })
  })

  it.effect("gives schemas that take what the codec writes, and nothing else", () =>
    Effect.gen(function*() {
      const document = make({ commands: [EmitBooked] })
      const messages = ["channels", "bookings", "messages", "Booked.v1"]
      const payload = schemaAt(document, ...messages, "payload")
      const headers = schemaAt(document, ...messages, "headers")
      const seat = new Seat({ row: 3, booked: new Date(0) })
      const base = {
        seat,
        others: [seat, seat] as const,
        by: "ada",
        at: new Date(1),
        amount: 12n,
        parent: new Comment({ text: "a", replies: [new Comment({ text: "b", replies: [] })] })
      }
      const codec = yield* MessageCodec.MessageCodec
      const context = new FiberMessageContext(yield* Effect.context<never>())
      for (
        const event of [
          new Booked(base),
          new Booked({ ...base, note: undefined, price: Infinity }),
          new Booked({ ...base, note: "window", price: 1.5, tag: "x" })
        ]
      ) {
        const message = yield* codec.encode(event, context)
        const body: Record<string, unknown> = JSON.parse(new TextDecoder().decode(message.body!))
        assertValid(payload, body)
        assertValid(headers, message.attributes)
        assert.isFalse(headers({ ...message.attributes, type: "Booked.v2" }))
        assert.isFalse(headers({ ...message.attributes, time: "yesterday" }))
        for (const name of ["seat", "others", "by", "at", "amount", "parent"]) {
          assert.isFalse(payload({ ...body, [name]: undefined }), name)
          assert.isFalse(payload({ ...body, [name]: 1 }), name)
        }
        assert.isFalse(payload({ ...body, others: [body["seat"], 1] }))
        assert.isFalse(payload({ ...body, tag: null }), "an exact optional field")
      }
    }))

  it("moves schemas with an identifier to the components, once for all messages", () => {
    const document = make({ commands: [EmitBooked], handlers: [Seats] })
    const schemas = document.components.schemas
    assert.deepStrictEqual(Object.keys(schemas), [
      "CloudEvent",
      "app_SeatEncoded",
      "User_Id",
      "CommentEncoded",
      "CloudEvent_1"
    ])
    assert.deepStrictEqual(schemas["User_Id"], { type: "string", description: "An account" })
    assert.deepStrictEqual(schemas["CloudEvent_1"], { type: "boolean" })
    const payload = document.channels["bookings"]!.messages["Booked.v1"]!.payload
    assert.deepInclude(payload["properties"], {
      seat: { $ref: "#/components/schemas/app_SeatEncoded" },
      others: {
        type: "array",
        items: [{ $ref: "#/components/schemas/app_SeatEncoded" }, { $ref: "#/components/schemas/app_SeatEncoded" }],
        minItems: 2,
        maxItems: 2
      },
      by: { $ref: "#/components/schemas/User_Id" },
      at: { type: "string" },
      note: { anyOf: [{ type: "string" }, { type: "null" }] },
      tag: { type: "string" }
    })
    assert.notProperty(payload["properties"], "_tag")
    assert.deepStrictEqual(document.channels["seats"]!.messages["SeatFreed.v1"]!.payload["properties"], {
      seat: { $ref: "#/components/schemas/app_SeatEncoded" },
      flag: { $ref: "#/components/schemas/CloudEvent_1" }
    })
  })

  const documentOf = (tag: string, topic: string) => {
    const Odd = class extends NotificationEvent.Class<NotificationEvent.Any>()(tag, {}, { topic }) {}
    class EmitOdd extends Command.Class<EmitOdd>()("EmitOdd", { emits: [Odd] }) {}
    return make({ commands: [EmitOdd], handlers: [EventHandler.make("OnOdd", { on: Odd })] })
  }

  it("escapes names in references", () => {
    const document = documentOf("app/Odd ~", "a/b~c dé")
    assert.deepStrictEqual(Object.keys(document.channels), ["a/b~c dé"])
    assert.deepStrictEqual(document.operations["receiveapp/Odd ~"]?.messages, [
      { $ref: "#/channels/a~1b~0c%20d%C3%A9/messages/app~1Odd%20~0.v1" }
    ])
  })

  // What @asyncapi/parser 3.6 does not take as the key of a channel, an operation or a message
  it.each([
    ["sales#eu", "sales_23_eu", null],
    ["sales?eu", "sales_3f_eu", null],
    ["100%23", "100_25_23", "100%23"],
    ["$ref", "_24_ref", "$ref"],
    ["$refs", "$refs", "$refs"],
    ["__proto__", "_5f__proto__", "__proto__"],
    ["eu.{shop}", "eu.{shop}", null],
    ["a.b-c_d/e", "a.b-c_d/e", "a.b-c_d/e"]
  ])("escapes what tools do not take in keys, and leaves what AsyncAPI would misread as an address: %s", (
    topic,
    key,
    address
  ) => {
    const document = documentOf(topic, topic)
    assert.deepStrictEqual(Object.keys(document.channels), [key])
    const channel = document.channels[key]!
    assert.strictEqual(channel.address, address)
    assert.strictEqual(channel.title, address === null ? topic : undefined)
    const operations = Object.keys(document.operations)
    assert.match(operations.join(), /^send([^?#%]*),receive\1$/)
    assert.deepStrictEqual(Object.values(channel.messages).map(({ name }) => name), [`${topic}.v1`])
    assert.notMatch(Object.keys(channel.messages).join(), /[?#%]/)
  })

  it("keeps names apart that are escaped alike", () => {
    class Query1 extends NotificationEvent.Class<Query1>()("a?b", {}, { topic: "t?" }) {}
    class Query2 extends NotificationEvent.Class<Query2>()("a_3f_b", {}, { topic: "t_3f_" }) {}
    class Emit extends Command.Class<Emit>()("Emit", { emits: [Query1, Query2] }) {}
    const document = make({ commands: [Emit] })
    assert.deepStrictEqual(Object.keys(document.channels), ["t_3f_", "t_3f__2"])
    assert.deepStrictEqual(
      Object.entries(document.operations).map(([id, { channel }]) => [id, channel.$ref]),
      [["senda_3f_b", "#/channels/t_3f_"], ["senda_3f_b_2", "#/channels/t_3f__2"]]
    )
  })
})

describe("two definitions of one event", () => {
  const define = (topic: string, fields: NotificationEvent.WireFields, version = 1) => {
    class Moved extends NotificationEvent.Class<Moved>()("Moved", fields, { topic, version }) {}
    return Moved
  }
  class MovedNow extends NotificationEvent.Class<MovedNow>()("Moved", { id: Schema.String, at: Schema.Finite }, {
    topic: "moves",
    version: 2,
    upcast: Upcast.from(Schema.Struct({ id: Schema.String })).toCurrent(({ id }) => ({ id, at: 0 }))
  }) {}
  const documentOf = (emits: NotificationEvent.AnyClass, on: NotificationEvent.AnyClass) => {
    class Move extends Command.Class<Move>()("Move", { emits: [emits] }) {}
    return make({ commands: [Move], handlers: [EventHandler.make("OnMoved", { on, emits: [on] })] })
  }

  it("are one where they agree: a program that writes the old version, one that reads it", () => {
    const document = documentOf(define("moves", { id: Schema.String }), MovedNow)
    assert.deepStrictEqual(Object.keys(document.channels["moves"]!.messages), ["Moved.v1", "Moved.v2"])
    assert.deepStrictEqual(
      Object.entries(document.operations).map(([id, { messages, summary }]) => [
        `${id}: ${summary}`,
        ...messages.map(({ $ref }) => $ref.replace("#/channels/moves/messages/", ""))
      ]),
      [
        ["sendMoved: Emitted by Move, OnMoved", "Moved.v1", "Moved.v2"],
        ["receiveMoved: Handled by OnMoved", "Moved.v2", "Moved.v1"]
      ]
    )
  })

  it("are an error where they differ in fields", () => {
    assert.throws(
      () => documentOf(define("moves", { id: Schema.Finite }), MovedNow),
      "AsyncApi: two definitions of \"Moved.v1\" on topic \"moves\" have different fields"
    )
  })

  it("are an error where they differ in topic", () => {
    assert.throws(
      () => documentOf(define("shifts", { id: Schema.String }), MovedNow),
      "AsyncApi: two notification events are called \"Moved\", on topics \"shifts\" and \"moves\""
    )
  })
})
