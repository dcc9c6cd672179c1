/** In which context handlers run, and the correlation of a flow. */
import { assert, describe, it } from "@effect/vitest"
import { Command, Correlation, EventFlow, EventHandler, Mediator, Middleware, Query } from "@event-flow/core"
import { Context, Effect, Exit, Fiber, Layer, Schema, Stream } from "effect"
import { A, alone, B, Boom, Do, flow, implementations, Journal, News, RecordingBroker, TestFlow } from "./fixtures.ts"

class User extends Context.Service<User, { readonly name: string }>()("test/User") {}

describe("the context of handlers", () => {
  it.effect("`requires` shows in the sender and the handler sees the sender's service", () =>
    Effect.gen(function*() {
      class Greet extends Command.Class<Greet>()("Greet", { success: Schema.String, requires: [User] }) {}
      const layer = alone(Greet, Greet.toLayer(() => User.useSync((user) => `Hello ${user.name}`)))
      const greet = (name: string) => Mediator.send(new Greet()).pipe(Effect.provideService(User, { name }))
      assert.deepStrictEqual(yield* Effect.provide(Effect.all([greet("Ada"), greet("Bob")]), layer), [
        "Hello Ada",
        "Hello Bob"
      ])
    }))

  // Two modules, each with a store of its own behind the same tag
  class Store extends Context.Service<Store, { readonly name: string }>()("test/Store") {}
  const store = (name: string) => Layer.succeed(Store)({ name })
  const OnA = EventHandler.make("OnA", { on: A })

  for (const middleware of [[], [Middleware.logging]]) {
    it.effect(`an event's handler has the services of its own layer, ${middleware.length} command middleware`, () =>
      Effect.gen(function*() {
        const { entries, note } = new Journal()
        class Save extends Command.Class<Save>()("Save", { emits: [A], middleware }) {}
        const noteStore = (who: string) => Effect.flatMap(Store, ({ name }) => note(`${who} in ${name}`))
        const layer = EventFlow.make("Saving", { commands: [Save], handlers: [OnA] }).layer().pipe(
          Layer.provide([
            Save.toLayer([Store], (_, { collect }) => Effect.andThen(noteStore("command"), collect(new A({})))).pipe(
              Layer.provide(store("orders"))
            ),
            OnA.toLayer([Store], () => noteStore("event")).pipe(Layer.provide(store("billing")))
          ])
        )
        yield* Mediator.send(new Save()).pipe(Effect.provide(layer))
        assert.deepStrictEqual(entries, ["command in orders", "event in billing"])
      }))
  }

  it.effect("a nested command's handler has the services of its own layer", () =>
    Effect.gen(function*() {
      class Inner extends Query.Class<Inner>()("Inner", { success: Schema.String }) {}
      class Outer extends Query.Class<Outer>()("Outer", { success: Schema.String, sends: [Inner] }) {}
      const inner = Inner.toLayer([Store], () => Store.useSync(({ name }) => name)).pipe(Layer.provide(store("inner")))
      const outer = Outer.toLayer([Store], () =>
        Effect.andThen(Store, ({ name }) => Effect.map(Mediator.send(new Inner()), (inner) => `${name} ${inner}`)))
        .pipe(Layer.provide(store("outer")))
      const layer = EventFlow.make("Nested", { commands: [Inner, Outer] }).layer().pipe(Layer.provide([inner, outer]))
      assert.strictEqual(yield* Mediator.send(new Outer()).pipe(Effect.provide(layer)), "outer inner")
    }))

  it.effect("after a send the sender's fiber has its own context, whatever the outcome", () =>
    Effect.gen(function*() {
      const outcomes: Array<Effect.Effect<string, Boom>> = [
        Effect.succeed(""),
        Effect.fail(new Boom({ id: "" })),
        Effect.die("bug"),
        Effect.interrupt,
        Effect.never
      ]
      for (const concurrency of [1, 3]) {
        for (const inCommand of [true, false]) {
          for (const outcome of outcomes) {
            const layer = inCommand ? flow({ concurrency, command: () => outcome }) : flow({
              concurrency,
              events: [new A({})],
              on: { A: () => Effect.asVoid(outcome) }
            })
            const program = Effect.gen(function*() {
              const before = yield* Effect.context<never>()
              let after: Context.Context<never> | undefined
              yield* Mediator.send(new Do()).pipe(
                Effect.onExit(() =>
                  Effect.sync(() => {
                    after = before
                  }).pipe(
                    Effect.andThen(Effect.context<never>()),
                    Effect.tap((context) =>
                      Effect.sync(() => {
                        after = context
                      })
                    )
                  )
                ),
                Effect.exit
              )
              assert.strictEqual(after, before)
            })
            const fiber = yield* Effect.forkChild(Effect.provide(program, layer), { startImmediately: true })
            yield* Fiber.interrupt(fiber)
            const exit = yield* Fiber.await(fiber)
            assert.isTrue(Exit.isSuccess(exit) || Exit.hasInterrupts(exit), String(exit))
          }
        }
      }
    }))
})

describe("correlation", () => {
  it.effect("is shared by nested sends and their events, and new for each flow", () =>
    Effect.gen(function*() {
      const seen: Array<string> = []
      const see = Effect.flatMap(Correlation.current, (correlation) =>
        Effect.sync(() => void seen.push(correlation?.correlationId ?? "none")))
      class Outer extends Command.Class<Outer>()("Outer", { emits: [B], sends: [Do] }) {}
      const broker = new RecordingBroker()
      const layer = EventFlow.make("Whole", { flows: [TestFlow], commands: [Outer] }).layer().pipe(
        Layer.provide([
          implementations({
            events: [new A({}), new News({ n: 1 })],
            on: {
              A: () =>
                see,
              B: (_, { collect }) => Effect.andThen(see, collect(new News({ n: 2 })))
            }
          }),
          Outer.toLayer((_, { collect }) =>
            see.pipe(
              Effect.andThen(Mediator.send(new Do())),
              Effect.andThen(collect(new B({}))),
              Effect.orDie
            )
          ),
          broker.layer
        ])
      )
      yield* Effect.provide(Effect.andThen(Mediator.send(new Outer()), Mediator.send(new Outer())), layer)
      assert.strictEqual(seen.length, 6)
      assert.strictEqual(new Set(seen.slice(0, 3)).size, 1)
      assert.strictEqual(new Set(seen.slice(3)).size, 1)
      assert.strictEqual(new Set(seen).size, 2)
      assert.match(seen[0]!, /^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/)
      assert.deepStrictEqual(
        broker.batches.flat().map(({ attributes }) => attributes["correlationid"]),
        [seen[0], seen[0], seen[3], seen[3]]
      )
      assert.isUndefined(yield* Correlation.current)
    }))

  it.effect("is shared by commands with middleware, and in their streams", () =>
    Effect.gen(function*() {
      const seen: Array<string | undefined> = []
      const see = Effect.flatMap(Correlation.current, (correlation) =>
        Effect.sync(() => void seen.push(correlation?.correlationId)))
      const middleware = [Middleware.logging] as const
      class Inner extends Query.Class<Inner>()("Inner", { middleware }) {}
      class Numbers extends Query.Class<Numbers>()("Numbers", { success: Schema.Int, stream: true }) {}
      class Outer extends Query.Class<Outer>()("Outer", { middleware, sends: [Inner, Numbers] }) {}
      const layer = EventFlow.make("Nested", { commands: [Inner, Numbers, Outer] }).layer().pipe(
        Layer.provide([
          Outer.toLayer(() =>
            see.pipe(
              Effect.andThen(Mediator.send(new Inner())),
              Effect.andThen(Stream.runDrain(Mediator.stream(new Numbers())))
            )
          ),
          Inner.toLayer(() =>
            see
          ),
          Numbers.toLayer(() => Stream.fromEffect(Effect.as(see, 1)))
        ])
      )
      yield* Effect.provide(Mediator.send(new Outer()), layer)
      assert.isDefined(seen[0])
      assert.deepStrictEqual(seen, [seen[0], seen[0], seen[0]])
    }))

  it.effect("is that of the sender when it has one", () =>
    Effect.gen(function*() {
      const broker = new RecordingBroker()
      yield* Mediator.send(new Do()).pipe(
        Correlation.provide(Correlation.make("from-a-header", "cause")),
        Effect.provide(flow({ broker: broker.layer, events: [new News({ n: 1 })] }))
      )
      const { attributes } = broker.batches[0]![0]!
      assert.strictEqual(attributes["correlationid"], "from-a-header")
      assert.strictEqual(attributes["causationid"], "cause")
    }))
})
