/** Middleware of commands, and mediators of one's own. */
import { assert, describe, it } from "@effect/vitest"
import { Broker, Command, EventFlow, EventHandler, Mediator, Middleware, Query } from "@event-flow/core"
import { Context, Effect, Exit, Layer, Option, Schedule, Schema } from "effect"
import { A, alone, Boom, Do, flow, Journal, News, passTime, RecordingLogger } from "./fixtures.ts"

class Denied extends Schema.TaggedError<Denied>()("Denied", {}) {}

class User extends Context.Service<User, { readonly name: string }>()("test/User") {}

const bracket = (journal: Journal, name: string) =>
  Middleware.make((effect, info) =>
    journal.note(`${name} before ${info.tag}`).pipe(
      Effect.andThen(effect),
      Effect.onExit((exit) => journal.note(`${name} after ${exit._tag}`))
    )
  )

describe("command middleware", () => {
  it.effect("wraps handler and events, outermost first", () =>
    Effect.gen(function*() {
      const journal = new Journal()
      class Wrapped extends Command.Class<Wrapped>()("Wrapped", {
        emits: [A],
        middleware: [bracket(journal, "outer"), bracket(journal, "inner")]
      }) {}
      const OnA = EventHandler.make("OnA", { on: A })
      const layer = EventFlow.make("Wrapping", { commands: [Wrapped], handlers: [OnA] }).layer().pipe(
        Layer.provide([
          Wrapped.toLayer((_, { collect }) => Effect.andThen(journal.note("handler"), collect(new A({})))),
          OnA.toLayer(() => journal.note("event"))
        ])
      )
      yield* Mediator.send(new Wrapped()).pipe(Effect.provide(layer))
      assert.deepStrictEqual(journal.entries, [
        "outer before Wrapped",
        "inner before Wrapped",
        "handler",
        "event",
        "inner after Success",
        "outer after Success"
      ])
    }))

  it.effect("knows the command that it wraps, its fields and its definition", () =>
    Effect.gen(function*() {
      const seen: Array<Middleware.Info> = []
      const look = Middleware.make((effect, info) => Effect.andThen(Effect.sync(() => seen.push(info)), effect))
      class Own extends Mediator.Service<Own>()("test/Looking", { middleware: [look] }) {}
      class Looked extends Command.Class<Looked>()("Looked", { payload: { id: Schema.String }, middleware: [look] }) {}
      const layer = Layer.merge(Own.layer(), alone(Looked, Looked.toLayer(() => Effect.void)))
      const command = new Looked({ id: "1" })
      yield* Own.send(command).pipe(Effect.provide(layer))
      assert.strictEqual(seen.length, 2)
      for (const info of seen) {
        assert.strictEqual(info.tag, "Looked")
        assert.strictEqual(info.command as unknown, command)
        assert.strictEqual(info.command["id"], "1")
        assert.deepStrictEqual(info.definition.middleware, [look])
        assert.strictEqual(info.definition.payload, Looked.payload)
      }
    }))

  it.effect("sees failures of handler and events", () =>
    Effect.gen(function*() {
      const journal = new Journal()
      class Wrapped extends Command.Class<Wrapped>()("Wrapped", {
        payload: { fails: Schema.Boolean },
        error: Boom,
        emits: [News],
        middleware: [bracket(journal, "it")]
      }) {}
      const layer = alone(
        Wrapped,
        Wrapped.toLayer(({ fails }, { collect }) =>
          fails ? Effect.fail(new Boom({ id: "1" })) : collect(new News({ n: 1 }))
        )
      ).pipe(Layer.provide(Broker.layerNone))
      const own = yield* Effect.flip(Mediator.send(new Wrapped({ fails: true })).pipe(Effect.provide(layer)))
      const ofEvent = yield* Effect.flip(Mediator.send(new Wrapped({ fails: false })).pipe(Effect.provide(layer)))
      assert.deepStrictEqual([own._tag, ofEvent._tag], ["Boom", "BrokerNotFound"])
      assert.deepStrictEqual(journal.entries, [
        "it before Wrapped",
        "it after Failure",
        "it before Wrapped",
        "it after Failure"
      ])
    }))

  it.effect("is a service that adds errors and provides services to handler and events", () =>
    Effect.gen(function*() {
      class Sessions extends Context.Service<Sessions, { readonly user: Option.Option<string> }>()("test/Sessions") {}
      class Authenticate extends Middleware.Service<Authenticate>()("test/Authenticate", {
        provides: [User],
        error: Denied
      }) {}
      class WhoAmI extends Query.Class<WhoAmI>()("WhoAmI", { success: Schema.String, middleware: [Authenticate] }) {}
      const layer = (user: Option.Option<string>) =>
        alone(WhoAmI, WhoAmI.toLayer(() => User.useSync((user) => user.name))).pipe(
          Layer.provide(
            Layer.effect(
              Authenticate,
              Sessions.useSync((sessions) => (effect) =>
                Option.match(sessions.user, {
                  onNone: () => Effect.fail(new Denied()),
                  onSome: (name) => Effect.provideService(effect, User, { name })
                })
              )
            )
          ),
          Layer.provide(Layer.succeed(Sessions)({ user }))
        )
      const ask = (user: Option.Option<string>) => Mediator.send(new WhoAmI()).pipe(Effect.provide(layer(user)))
      assert.strictEqual(yield* ask(Option.some("Ada")), "Ada")
      assert.deepStrictEqual(yield* Effect.flip(ask(Option.none())), new Denied())
    }))
})

describe("ready middleware", () => {
  const failing = (times: number, journal: Journal) => {
    let attempt = 0
    return Effect.suspend(() => {
      attempt++
      return Effect.andThen(
        journal.at(`attempt ${attempt}`),
        attempt <= times ? Effect.fail(new Boom({ id: String(attempt) })) : Effect.succeed(attempt)
      )
    })
  }

  class Retried extends Command.Class<Retried>()("Retried", {
    success: Schema.Int,
    error: Boom,
    emits: [A],
    middleware: [Middleware.retry({ schedule: Schedule.spaced(10).pipe(Schedule.upTo({ times: 2 })) })]
  }) {}
  const OnA = EventHandler.make("OnA", { on: A, error: Boom })
  const noEvents = () => Effect.void

  const retried = (handler: Effect.Effect<number, Boom>, onA: (event: A) => Effect.Effect<void, Boom> = noEvents) =>
    EventFlow.make("Retrying", { commands: [Retried], handlers: [OnA] }).layer().pipe(
      Layer.provide([
        Retried.toLayer((_, { collect }) => Effect.andThen(collect(new A({})), handler)),
        OnA.toLayer(onA)
      ])
    )

  it.effect("F2: retry starts each attempt with an empty collection", () =>
    Effect.gen(function*() {
      const journal = new Journal()
      const layer = retried(failing(2, journal), () => journal.at("A"))
      const exit = yield* passTime(Mediator.send(new Retried()).pipe(Effect.provide(layer)))
      assert.deepStrictEqual(exit, Exit.succeed(3))
      assert.deepStrictEqual(journal.entries, ["attempt 1@0", "attempt 2@10", "attempt 3@20", "A@20"])
    }))

  it.effect("retry gives up with the last error", () =>
    Effect.gen(function*() {
      const journal = new Journal()
      const exit = yield* passTime(Mediator.send(new Retried()).pipe(Effect.provide(retried(failing(9, journal)))))
      assert.deepStrictEqual(Exit.findErrorOption(exit), Option.some(new Boom({ id: "3" })))
      assert.strictEqual(journal.entries.length, 3)
    }))

  it.effect("retry covers the events too, with a run of the handler for each", () =>
    Effect.gen(function*() {
      const journal = new Journal()
      const attempts = failing(1, journal)
      const layer = retried(Effect.as(journal.at("handler"), 1), () => Effect.asVoid(attempts))
      const exit = yield* passTime(Mediator.send(new Retried()).pipe(Effect.provide(layer)))
      assert.deepStrictEqual(exit, Exit.succeed(1))
      assert.deepStrictEqual(journal.entries, ["handler@0", "attempt 1@0", "handler@10", "attempt 2@10"])
    }))

  it.effect("retry leaves defects alone, and what `while` says", () =>
    Effect.gen(function*() {
      const journal = new Journal()
      const bug = Effect.andThen(journal.note("run"), Effect.die("bug"))
      yield* passTime(Mediator.send(new Retried()).pipe(Effect.provide(retried(bug))))
      assert.deepStrictEqual(journal.entries, ["run"])
      class Picky extends Command.Class<Picky>()("Picky", {
        error: Boom,
        middleware: [Middleware.retry({
          schedule: Schedule.recurs(5),
          while: (error) => error instanceof Boom && error.id === "1"
        })]
      }) {}
      const other = new Journal()
      const attempts = Effect.asVoid(failing(9, other))
      const layer = alone(Picky, Picky.toLayer(() => attempts))
      yield* Effect.flip(Mediator.send(new Picky()).pipe(Effect.provide(layer)))
      assert.strictEqual(other.entries.length, 2)
    }))

  for (const where of ["handler", "event"] as const) {
    it.effect(`timeout interrupts the ${where} and fails with CommandTimeout`, () =>
      Effect.gen(function*() {
        const { at, entries, work } = new Journal()
        class Slow
          extends Command.Class<Slow>()("Slow", { emits: [A], middleware: [Middleware.timeout("2 seconds")] })
        {}
        const layer = EventFlow.make("Dawdling", { commands: [Slow], handlers: [OnA] }).layer().pipe(
          Layer.provide([
            Slow.toLayer((_, { collect }) =>
              Effect.andThen(collect(new A({})), where === "handler" ? work("handler", 9000) : Effect.void)
            ),
            OnA.toLayer(() => work("event", 9000))
          ])
        )
        const exit = yield* passTime(
          Mediator.send(new Slow()).pipe(Effect.onExit(() => at("send ends")), Effect.provide(layer))
        )
        assert.deepStrictEqual(
          Exit.findErrorOption(exit),
          Option.some(new Middleware.CommandTimeout({ command: "Slow", millis: 2000 }))
        )
        assert.deepStrictEqual(entries, [`${where} starts@0`, `${where} interrupted@2000`, "send ends@2000"])
      }))
  }

  it.effect("timeout lets through what is in time", () =>
    Effect.gen(function*() {
      class Quick extends Command.Class<Quick>()("Quick", {
        success: Schema.String,
        middleware: [Middleware.timeout(10)]
      }) {}
      const layer = alone(Quick, Quick.toLayer(() => Effect.succeed("quick").pipe(Effect.delay(9))))
      assert.deepStrictEqual(
        yield* passTime(Mediator.send(new Quick()).pipe(Effect.provide(layer))),
        Exit.succeed("quick")
      )
    }))

  it.effect("logging tells successes, failures, defects and interruption apart", () =>
    Effect.gen(function*() {
      const logger = new RecordingLogger("All")
      class Logged extends Command.Class<Logged>()("Logged", {
        payload: { secret: Schema.String },
        error: Boom,
        middleware: [Middleware.logging]
      }) {}
      const outcomes: Record<string, Effect.Effect<void, Boom>> = {
        succeeds: Effect.delay(Effect.void, 5),
        fails: Effect.fail(new Boom({ id: "1" })),
        dies: Effect.die("bug"),
        interrupted: Effect.interrupt
      }
      const layer = alone(Logged, Logged.toLayer(({ secret }) => outcomes[secret]!))
      for (const secret of Object.keys(outcomes)) {
        yield* passTime(Mediator.send(new Logged({ secret })).pipe(Effect.provide([layer, logger.layer])))
      }
      assert.deepStrictEqual(logger.entries, [
        "Debug Command Logged succeeded",
        "Warn Command Logged failed",
        "Error Command Logged died",
        "Debug Command Logged was interrupted"
      ])
      assert.deepStrictEqual(logger.annotations[0], { command: "Logged", millis: 5 })
    }))
})

describe("a mediator of one's own", () => {
  it.effect("its middleware wraps that of the commands, adds errors and provides services", () =>
    Effect.gen(function*() {
      const journal = new Journal()
      class Authenticate extends Middleware.Service<Authenticate>()("test/Authenticate", {
        provides: [User],
        error: Denied
      }) {}
      class AppMediator extends Mediator.Service<AppMediator>()("test/AppMediator", {
        middleware: [bracket(journal, "mediator"), Authenticate]
      }) {}
      class Rename extends Command.Class<Rename>()("Rename", {
        success: Schema.String,
        requires: [User],
        emits: [A],
        middleware: [bracket(journal, "command")]
      }) {}
      const OnA = EventHandler.make("OnA", { on: A })
      let allowed = true
      class Renaming extends EventFlow.make("Renaming", { commands: [Rename], handlers: [OnA] }) {}
      const layer = Layer.merge(AppMediator.layer(), Renaming.layer()).pipe(
        Layer.provide([
          Rename.toLayer((_, { collect }) => Effect.andThen(collect(new A({})), User.useSync((user) => user.name))),
          OnA.toLayer(() => journal.note("event")),
          Layer.succeed(Authenticate)((effect) =>
            allowed ? Effect.provideService(effect, User, { name: "Ada" }) : Effect.fail(new Denied())
          )
        ])
      )
      assert.strictEqual(yield* AppMediator.send(new Rename()).pipe(Effect.provide(layer)), "Ada")
      assert.deepStrictEqual(journal.entries, [
        "mediator before Rename",
        "command before Rename",
        "event",
        "command after Success",
        "mediator after Success"
      ])
      allowed = false
      const error = yield* Effect.flip(AppMediator.send(new Rename()).pipe(Effect.provide(layer)))
      assert.deepStrictEqual(error, new Denied())
      // `Mediator.send` has none of it: the sender brings the user
      const plain = Mediator.send(new Rename()).pipe(Effect.provideService(User, { name: "Bob" }))
      assert.strictEqual(yield* Effect.provide(plain, layer), "Bob")
    }))

  it.effect("drains on its own", () =>
    Effect.gen(function*() {
      const { at, entries } = new Journal()
      class Own extends Mediator.Service<Own>()("test/Own", { middleware: [] }) {}
      const layer = Own.layer({ drainTimeout: 100 }).pipe(
        Layer.provideMerge(flow({ command: () => Effect.never })),
        Layer.provide(new RecordingLogger().layer)
      )
      yield* passTime(
        Effect.scoped(
          Effect.gen(function*() {
            const context = yield* Layer.build(layer)
            yield* Effect.forkDetach(Effect.provideContext(Own.send(new Do()), context), { startImmediately: true })
          })
        ).pipe(Effect.andThen(at("closed")))
      )
      assert.deepStrictEqual(entries, ["closed@100"])
    }))
})
