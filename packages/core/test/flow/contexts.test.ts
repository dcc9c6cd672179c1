/** What handlers find in their context: F17, case by case. */
import { assert, describe, it } from "@effect/vitest"
import {
  Command,
  DomainEvent,
  EventConsumer,
  EventFlow,
  EventHandler,
  Mediator,
  MemoryBroker,
  Middleware,
  NotificationEvent,
  Query
} from "@event-flow/core"
import { Context, Effect, Layer, LayerMap, ManagedRuntime, Option, References, Schema, Tracer } from "effect"
import { alone, Journal } from "../fixtures.ts"

class Database extends Context.Service<Database, { readonly name: string }>()("test/Database") {}
const database = (name: string) => Layer.succeed(Database)({ name })

const CurrentUser = Context.Reference<string>("test/CurrentUser", { defaultValue: () => "anonymous" })

describe("F17: a module with a database of its own", () => {
  class Paid extends DomainEvent.Class<Paid>()("Paid", {}) {}
  class Pay extends Command.Class<Pay>()("Pay", { success: Schema.String, emits: [Paid] }) {}
  const Book = EventHandler.make("Book", { on: Paid })
  class Billing extends EventFlow.make("Billing", { commands: [Pay], handlers: [Book] }) {}

  for (const concurrency of [1, 3]) {
    it.effect(`F17: writes to it, whatever the sender has under the same key, concurrency ${concurrency}`, () =>
      Effect.gen(function*() {
        const { entries, note } = new Journal()
        const billing = Billing.layer({ concurrency }).pipe(
          Layer.provide([
            Pay.toLayer(
              [Database],
              (_, { collect }) => Effect.andThen(collect(new Paid()), Database.useSync(({ name }) => name))
            ),
            Book.toLayer([Database], () => Effect.flatMap(Database, ({ name }) => note(`Book wrote to ${name}`)))
          ]),
          Layer.provide(database("billing"))
        )
        for (const layer of [billing, Layer.mergeAll(billing, database("shop"))]) {
          assert.strictEqual(yield* Effect.provide(Mediator.send(new Pay()), layer), "billing")
        }
        assert.deepStrictEqual(entries, ["Book wrote to billing", "Book wrote to billing"])
      }))
  }

  it.effect("F17: a reference is no service of a layer, and listing one says so", () =>
    Effect.sync(() => {
      assert.throws(
        () => Pay.toLayer([CurrentUser], () => Effect.succeed("")),
        /The layer of command "Pay" lists "test\/CurrentUser".*reference.*Remove it from the list/
      )
      assert.throws(
        () => Book.toLayer([Database, CurrentUser], () => Effect.void),
        /event handler "Book" lists "test\/CurrentUser"/
      )
    }))
})

describe("F17: whoever builds the layer leaves nothing of its own in it", () => {
  class WhoAmI extends Query.Class<WhoAmI>()("WhoAmI", { success: Schema.String }) {}
  const live = WhoAmI.toLayer(() =>
    Effect.gen(function*() {
      const user = yield* CurrentUser
      const annotations = yield* References.CurrentLogAnnotations
      const spans = yield* References.CurrentLogSpans
      const parent = Option.map(yield* Effect.serviceOption(Tracer.ParentSpan), ({ spanId }) => spanId)
      return JSON.stringify([user, annotations, spans.map(([label]) => label), Option.getOrNull(parent)])
    })
  )
  const flow = alone(WhoAmI, live)
  const ask = Mediator.send(new WhoAmI())
  const nobody = JSON.stringify(["anonymous", {}, [], null])
  const ada = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
    effect.pipe(
      Effect.provideService(CurrentUser, "ada"),
      Effect.annotateLogs({ request: 1 }),
      Effect.withLogSpan("request")
    )

  it.effect("F17: neither a request in which the flow of a tenant is built first", () =>
    Effect.gen(function*() {
      class Tenants extends LayerMap.Service<Tenants>()("test/WhoTenants", {
        lookup: () => flow,
        idleTimeToLive: "1 minute"
      }) {}
      yield* Effect.gen(function*() {
        const asked = Effect.provide(ask, Tenants.get("acme"))
        assert.strictEqual(yield* ada(asked), JSON.stringify(["ada", { request: 1 }, ["request"], null]))
        assert.strictEqual(yield* asked, nobody)
      }).pipe(Effect.provide(Tenants.layer))
    }))

  it.live("F17: nor the start of a program", () =>
    Effect.promise(async () => {
      const runtime = ManagedRuntime.make(
        Layer.effectContext(ada(Layer.build(flow))).pipe(Layer.withSpan("start-up"))
      )
      try {
        assert.strictEqual(await runtime.runPromise(ask), nobody)
      } finally {
        await runtime.dispose()
      }
    }))
})

describe("F17: in a consumer", () => {
  class News extends NotificationEvent.Class<News>()("News", { n: Schema.Int }, { topic: "news" }) {}
  class Tell extends Command.Class<Tell>()("Tell", { payload: { n: Schema.Int }, emits: [News] }) {}
  const Hear = EventHandler.make("Hear", { on: News })

  it.effect("F17: nothing of the publisher, nor of whoever built it", () =>
    Effect.gen(function*() {
      const { entries, note } = new Journal()
      const hear = Hear.toLayer([Database], () =>
        Effect.gen(function*() {
          const { name } = yield* Database
          yield* note(`${name}, ${yield* CurrentUser}, ${JSON.stringify(yield* References.CurrentLogAnnotations)}`)
        }))
      const consumer = EventConsumer.layer([Hear], { group: "group" }).pipe(
        Layer.provide(hear),
        Layer.provide(database("consumer's"))
      )
      const publisher = alone(Tell, Tell.toLayer(({ n }, { collect }) => collect(new News({ n }))))
      yield* Effect.gen(function*() {
        yield* Layer.build(consumer).pipe(
          Effect.provideService(CurrentUser, "builder"),
          Effect.annotateLogs({ phase: "start-up" })
        )
        yield* Mediator.send(new Tell({ n: 1 })).pipe(
          Effect.provideService(CurrentUser, "ada"),
          Effect.annotateLogs({ request: 1 }),
          Effect.provideService(Database, { name: "publisher's" })
        )
        yield* MemoryBroker.MemoryBroker.use(({ awaitIdle }) => awaitIdle)
      }).pipe(Effect.provide(publisher.pipe(Layer.provideMerge(MemoryBroker.layer()))))
      assert.deepStrictEqual(entries, ["consumer's, anonymous, {}"])
    }))
})

describe("F17: middleware", () => {
  it.effect("F17: has the services of its layer, and the references of the sender", () =>
    Effect.gen(function*() {
      const { entries, note } = new Journal()
      const audit = (who: string) =>
        Middleware.make((effect) =>
          Effect.gen(function*() {
            yield* note(`${who}: ${(yield* Database).name}, ${yield* CurrentUser}`)
            return yield* effect
          }), { requires: [Database, CurrentUser] })
      class Work extends Command.Class<Work>()("Work", { middleware: [audit("command")] }) {}
      class Own extends Mediator.Service<Own>()("test/Audited", { middleware: [audit("mediator")] }) {}
      const layer = Layer.mergeAll(
        alone(Work, Work.toLayer(() => Effect.void)).pipe(Layer.provide(database("command's"))),
        Own.layer().pipe(Layer.provide(database("mediator's")))
      )
      const context = yield* Layer.build(layer).pipe(Effect.provideService(CurrentUser, "builder"))
      yield* Own.send(new Work()).pipe(
        Effect.provideContext(context),
        Effect.provideService(CurrentUser, "ada"),
        Effect.provideService(Database, { name: "sender's" })
      )
      assert.deepStrictEqual(entries, ["mediator: mediator's, ada", "command: command's, ada"])
    }))
})
