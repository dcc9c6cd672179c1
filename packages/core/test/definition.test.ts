/** What is a definition, and which is which: F14, F15, and what an event or a command is as a Schema class. */
import { assert, describe, it } from "@effect/vitest"
import {
  Broker,
  Command,
  DomainEvent,
  Event,
  EventFlow,
  EventHandler,
  EventMap,
  Mediator,
  NotificationEvent,
  Query,
  Upcast
} from "@event-flow/core"
import { Cause, Effect, Equal, Exit, Layer, Schema } from "effect"
import { A, alone, B, Boom, Do, flow, Journal, News, RecordingBroker } from "./fixtures.ts"

describe("F14: duplicate definitions", () => {
  const First = EventHandler.make("Same", { on: A })
  const Second = EventHandler.make("Same", { on: B })

  it.effect("F14: two handlers of one name, with both named", () =>
    Effect.gen(function*() {
      const layer = EventMap.layer([First, Second]).pipe(Layer.provide([First.toLayer(() => Effect.void)]))
      const error = yield* Effect.flip(Layer.build(layer))
      assert.deepStrictEqual(
        error,
        new EventMap.DuplicateDefinition({
          kind: "handler",
          definition: "Same",
          first: "the one on \"A\"",
          second: "the one on \"B\""
        })
      )
      assert.strictEqual(error.name, "@event-flow/core/EventMap/DuplicateDefinition", "no field of its own hides it")
      assert.strictEqual(
        error.message,
        "Two event handlers are named \"Same\": the one on \"A\", and the one on \"B\". Rename one"
      )
    }))

  it.effect("F14: one of two namesakes, when the layer is that of the other", () =>
    Effect.gen(function*() {
      const layer = EventMap.layer([First]).pipe(Layer.provide(Second.toLayer(() => Effect.void)))
      const error = yield* Effect.flip(Layer.build(layer))
      assert.strictEqual(error.kind, "handler")
      assert.strictEqual(error.definition, "Same")
      assert.deepStrictEqual([error.first, error.second], ["the one on \"B\"", "the one on \"A\""])
    }))

  it.effect("F14: one handler listed twice", () =>
    Effect.gen(function*() {
      const layer = EventMap.layer([First, First]).pipe(Layer.provide(First.toLayer(() => Effect.void)))
      const error = yield* Effect.flip(Layer.build(layer))
      assert.strictEqual(error.definition, "Same")
    }))

  it.effect("F14: two events of one tag, with both named", () =>
    Effect.gen(function*() {
      class Other extends DomainEvent.Class<Other>()("A", { other: Schema.String, more: Schema.Int }) {}
      const OnA = EventHandler.make("OnA", { on: A })
      const OnOther = EventHandler.make("OnOther", { on: Other })
      const layer = EventMap.layer([OnA, OnOther]).pipe(
        Layer.provide([OnA.toLayer(() => Effect.void), OnOther.toLayer(() => Effect.void)])
      )
      const error = yield* Effect.flip(Layer.build(layer))
      assert.strictEqual(error.kind, "event")
      assert.strictEqual(
        error.message,
        "Two event classes have the tag \"A\": the one with fields {id} handled by \"OnA\", " +
          "and the one with fields {other, more} handled by \"OnOther\". Rename one"
      )
    }))

  it.effect("F14: a domain and a notification event of one tag", () =>
    Effect.gen(function*() {
      class Published extends NotificationEvent.Class<Published>()("A", {}, { topic: "a" }) {}
      const OnA = EventHandler.make("OnA", { on: A })
      const OnPublished = EventHandler.make("OnPublished", { on: Published })
      const layer = EventFlow.make("Both", { handlers: [OnA, OnPublished] }).layer().pipe(
        Layer.provide(OnA.toLayer(() => Effect.void))
      )
      const error = yield* Effect.flip(Layer.build(layer))
      assert.strictEqual(
        error.message,
        "Two event classes have the tag \"A\": the one with fields {id} handled by \"OnA\", " +
          "and the one with fields {} handled by \"OnPublished\". Rename one"
      )
    }))

  it.effect("F14: the layer of a flow fails to build just so", () =>
    Effect.gen(function*() {
      const layer = EventFlow.make("Twice", { handlers: [First, Second] }).layer().pipe(
        Layer.provide(First.toLayer(() => Effect.void))
      )
      assert.strictEqual((yield* Effect.flip(Layer.build(layer)))._tag, "DuplicateDefinition")
    }))

  it.effect("F14: two handlers of one event under two names are no duplicates", () =>
    Effect.gen(function*() {
      assert.isTrue(Exit.isSuccess(yield* Effect.exit(Layer.build(flow({})))))
    }))

  it.effect("F14: two commands of one tag are told apart when one is sent", () =>
    Effect.gen(function*() {
      class Namesake extends Command.Class<Namesake>()("Do", {}) {}
      const exit = yield* Effect.exit(Mediator.send(new Namesake()).pipe(Effect.provide(flow({}))))
      assert.include(String(Exit.isFailure(exit) && exit.cause), "Two command classes have the tag")
    }))
})

describe("F15: events are told apart by their exact class", () => {
  class Bare extends A {}

  for (const concurrency of [1, 3]) {
    it.effect(`F15: a bare subclass of a handled event is a defect that says so, concurrency ${concurrency}`, () =>
      Effect.gen(function*() {
        const { entries, note } = new Journal()
        const layer = flow({ concurrency, events: [new Bare({ id: "1" })], on: { A: () => note("A") } })
        const exit = yield* Effect.exit(Mediator.send(new Do()).pipe(Effect.provide(layer)))
        assert.deepStrictEqual(entries, [])
        assert.strictEqual(
          Exit.isFailure(exit) && String(Cause.squash(exit.cause)),
          "Error: Two event classes have the tag \"A\": the one that handler \"OnA\" handles, " +
            "and the one of the event that was collected (class Bare). " +
            "It is a second copy of the module, or a subclass: define it with extend and a tag of its own"
        )
      }))
  }

  it.effect("F15: a handler of a bare subclass beside its base fails the layer", () =>
    Effect.gen(function*() {
      const OnBare = EventHandler.make("OnBare", { on: Bare })
      const layer = EventFlow.make("Bare", { commands: [Do], handlers: [OnBare] }).layer().pipe(
        Layer.provide([Do.toLayer(() => Effect.succeed("")), OnBare.toLayer(() => Effect.void), Broker.layerNone])
      )
      const error = yield* Effect.flip(Layer.build(layer))
      assert.strictEqual(
        error.message,
        "Two event classes have the tag \"A\": the one with fields {id} handled by \"OnBare\", " +
          "and the one with fields {id} emitted by \"Do\". Rename one"
      )
    }))

  it.effect("F15: an extended event and its base each have their handlers", () =>
    Effect.gen(function*() {
      const { entries, note } = new Journal()
      class Extended extends A.extend<Extended>()("Extended", { more: Schema.Int }) {}
      const OnA = EventHandler.make("OnA", { on: A })
      const OnExtended = EventHandler.make("OnExtended", { on: Extended })
      class Both extends Command.Class<Both>()("Both", { emits: [A, Extended] }) {}
      const layer = EventFlow.make("Both", { commands: [Both], handlers: [OnA, OnExtended] }).layer().pipe(
        Layer.provide([
          Both.toLayer((_, { collectAll }) => collectAll([new Extended({ more: 1 }), new A({})])),
          OnA.toLayer((event) => note(event._tag)),
          OnExtended.toLayer((event) => note(`${event._tag} ${event.more}`))
        ])
      )
      yield* Mediator.send(new Both()).pipe(Effect.provide(layer))
      assert.deepStrictEqual(entries, ["Extended 1", "A"])
    }))

  it.effect("F15: an extended notification event has its own route", () =>
    Effect.gen(function*() {
      class Extra extends News.extend<Extra>()("Extra", { more: Schema.String }, {
        topic: "extra",
        key: (event) => event.more,
        version: 2
      }) {}
      const broker = new RecordingBroker()
      class Both extends Command.Class<Both>()("Both", { emits: [News, Extra] }) {}
      const layer = alone(
        Both,
        Both.toLayer((_, { collectAll }) => collectAll([new Extra({ n: 1, more: "x" }), new News({ n: 2 })]))
      ).pipe(Layer.provide(broker.layer))
      yield* Mediator.send(new Both()).pipe(Effect.provide(layer))
      assert.deepStrictEqual(
        broker.batches[0]!.map(({ attributes, key, topic }) => [topic, key, attributes["type"]]),
        [["extra", "x", "Extra.v2"], ["news", "2", "News.v1"]]
      )
      assert.deepStrictEqual(broker.bodies, [[{ n: 1, more: "x" }, { n: 2 }]])
    }))
})

describe("an event is a Schema class", () => {
  class Domain extends DomainEvent.Class<Domain>()("Happened", { id: Schema.String, at: Schema.DateFromString }) {
    get label(): string {
      return `happened to ${this.id}`
    }
  }
  class Notification
    extends NotificationEvent.Class<Notification>()("Happened", { id: Schema.String, at: Schema.DateFromString }, {
      topic: "happenings"
    })
  {
    get label(): string {
      return `happened to ${this.id}`
    }
  }
  const json = { _tag: "Happened", id: "1", at: new Date(0).toISOString() }

  const printsAndCompares = (make: (id: string) => Domain | Notification) => {
    const event = make("1")
    assert.strictEqual(event._tag, "Happened")
    assert.strictEqual(event.label, "happened to 1")
    assert.deepStrictEqual(Object.keys(event), ["_tag", "id", "at"])
    assert.strictEqual(JSON.stringify(event), JSON.stringify(json))
    assert.isTrue(Equal.equals(event, make("1")))
    assert.isFalse(Equal.equals(event, make("2")))
  }

  it("prints and compares by its fields", () => {
    printsAndCompares((id) => new Domain({ id, at: new Date(0) }))
    printsAndCompares((id) => new Notification({ id, at: new Date(0) }))
  })

  it.effect("decodes and encodes", () =>
    Effect.gen(function*() {
      for (const Class of [Domain, Notification]) {
        const codec = Schema.toCodecJson<Schema.Codec<Domain | Notification, unknown>>(Class)
        const event = yield* Schema.decodeUnknownEffect(codec)(json)
        assert.strictEqual(event.constructor, Class)
        assert.strictEqual(event.label, "happened to 1")
        assert.deepStrictEqual(yield* Schema.encodeEffect(codec)(event), json)
        assert.isTrue(Exit.isFailure(yield* Effect.exit(Schema.decodeUnknownEffect(codec)({ ...json, _tag: "Other" }))))
      }
    }))

  it("the kind is matched, exhaustively", () => {
    const kind = (event: Event.Any) =>
      Event.match(event, { Domain: ({ _tag }) => `domain ${_tag}`, Notification: ({ _tag }) => `notification ${_tag}` })
    assert.deepStrictEqual([new A({}), new News({ n: 1 })].map(kind), ["domain A", "notification News"])
    assert.deepStrictEqual([A, new A({}), new News({ n: 1 }), { _tag: "A" }, null].map(DomainEvent.isDomainEvent), [
      false,
      true,
      false,
      false,
      false
    ])
    assert.deepStrictEqual(
      [News, new A({}), new News({ n: 1 }), undefined].map(NotificationEvent.isNotificationEvent),
      [false, false, true, false]
    )
  })

  it("routes that cannot be are refused at definition", () => {
    const define = (options: NotificationEvent.Options<"X", {}, number>) => () =>
      NotificationEvent.Class<never>()("X", {}, options)
    assert.throws(define({ topic: "x", version: 0 }), /version must be a whole number from 1, not 0/)
    assert.throws(define({ topic: "x", version: 1.5 }), /version must be a whole number/)
    assert.throws(define({ topic: "" }), /topic is empty/)
    const upcast = Upcast.from(Schema.Struct({})).toCurrent(() => ({}))
    assert.throws(define({ topic: "x", version: 3, upcast }), /upcast ends at version 2, not at 3/)
  })
})

describe("a command is a Schema class", () => {
  class Rename extends Command.Class<Rename>()("Rename", {
    payload: { id: Schema.String, on: Schema.DateFromString },
    success: Schema.Int,
    error: Boom,
    emits: [A, News]
  }) {}

  it("prints and compares by its fields, with its definition out of sight", () => {
    const command = new Rename({ id: "1", on: new Date(0) })
    assert.deepStrictEqual(Object.keys(command), ["_tag", "id", "on"])
    assert.isTrue(Equal.equals(command, new Rename({ id: "1", on: new Date(0) })))
    assert.strictEqual(JSON.stringify(command), `{"_tag":"Rename","id":"1","on":"${new Date(0).toISOString()}"}`)
  })

  it.effect("decodes from JSON and is sent", () =>
    Effect.gen(function*() {
      const command = yield* Schema.decodeUnknownEffect(Schema.toCodecJson(Rename))({
        _tag: "Rename",
        id: "7",
        on: new Date(0).toISOString()
      })
      const layer = alone(Rename, Rename.toLayer(({ id, on }) => Effect.succeed(Number(id) + on.getTime()))).pipe(
        Layer.provide(Broker.layerNone)
      )
      assert.strictEqual(yield* Mediator.send(command).pipe(Effect.provide(layer)), 7)
    }))

  it("its definition is data", () => {
    assert.strictEqual(Rename.tag, "Rename")
    assert.strictEqual(Rename.kind, "Command")
    assert.strictEqual(Rename.mode, "single")
    assert.deepStrictEqual(Rename.emits, [A, News])
    assert.strictEqual(Rename.errorSchema, Boom)
    assert.strictEqual(Rename.successSchema, Schema.Int)
    assert.deepStrictEqual(Object.keys(Rename.payload), ["id", "on"])
    class Ask extends Query.Class<Ask>()("Ask", { success: Schema.Int, stream: true }) {}
    assert.strictEqual(Ask.kind, "Query")
    assert.strictEqual(Ask.mode, "stream")
    assert.deepStrictEqual(Ask.emits, [])
  })

  it.effect("a query is sent as a command is", () =>
    Effect.gen(function*() {
      class Ask extends Query.Class<Ask>()("Ask", {
        payload: { n: Schema.Int },
        success: Schema.Int,
        error: Boom
      }) {}
      const layer = alone(
        Ask,
        Ask.toLayer(({ n }) => n > 0 ? Effect.succeed(n * 2) : Effect.fail(new Boom({ id: "negative" })))
      )
      assert.strictEqual(yield* Mediator.send(new Ask({ n: 2 })).pipe(Effect.provide(layer)), 4)
      const error = yield* Effect.flip(Mediator.send(new Ask({ n: -2 })).pipe(Effect.provide(layer)))
      assert.deepStrictEqual(error, new Boom({ id: "negative" }))
    }))
})
