/** The response of a command beside what became of its events. */
import { assert, describe, it } from "@effect/vitest"
import { Broker, Command, EventFlow, EventFlowError, EventHandler, Mediator, Middleware } from "@event-flow/core"
import { Cause, Effect, Exit, Fiber, Layer, Option, Schedule, Schema } from "effect"
import {
  A,
  alone,
  B,
  Boom,
  Do,
  flow,
  type FlowOptions,
  Journal,
  News,
  passTime,
  RecordingBroker,
  RecordingLogger,
  settle
} from "../fixtures.ts"

const policies = ["failFast", "accumulate", "log"] as const
const boom = new Boom({ id: "of A" })
const ofA = new EventFlowError.EventHandlerError({ event: "A", handler: "OnA", cause: boom })

const settledIn = (options: FlowOptions) =>
  Mediator.sendSettled(new Do()).pipe(Effect.provide([flow(options), new RecordingLogger().layer]))

/** Whether an exit is a failure that looks like this one. */
const isFailure = (exit: Exit.Exit<unknown, unknown>, error: unknown): void => {
  assert.deepStrictEqual(Exit.isFailure(exit) && exit.cause.reasons, Cause.fail(error).reasons)
}

describe("sendSettled", () => {
  for (const onFailure of policies) {
    for (const concurrency of [1, 3]) {
      const options = { onFailure, concurrency, events: [new A({}), new B({})] }
      const given = `${onFailure}, concurrency ${concurrency}`

      it.effect(`gives both when all is well: ${given}`, () =>
        Effect.gen(function*() {
          const { entries, note } = new Journal()
          const settled = yield* settledIn({ ...options, on: { A: () => note("A"), B: () => note("B") } })
          assert.deepStrictEqual(settled, { response: "done", events: Exit.void })
          assert.deepStrictEqual(entries, ["A", "B"])
        }))

      it.effect(`gives both when a handler of an event fails: ${given}`, () =>
        Effect.gen(function*() {
          const { events, response } = yield* settledIn({ ...options, on: { A: () => Effect.fail(boom) } })
          assert.strictEqual(response, "done")
          if (onFailure === "log") assert.deepStrictEqual(events, Exit.void)
          else isFailure(events, onFailure === "failFast" ? ofA : new EventFlowError.EventsFailed({ failures: [ofA] }))
        }))

      it.effect(`gives both when a handler of an event dies, or interrupts itself: ${given}`, () =>
        Effect.gen(function*() {
          const died = yield* settledIn({ ...options, on: { A: () => Effect.die("bug") } })
          assert.strictEqual(died.response, "done")
          assert.deepStrictEqual(died.events, Exit.die("bug"))
          const interrupted = yield* settledIn({ ...options, on: { A: () => Effect.interrupt } })
          assert.strictEqual(interrupted.response, "done")
          assert.isTrue(Exit.hasInterrupts(interrupted.events))
        }))

      it.effect(`gives both when a publish fails: ${given}`, () =>
        Effect.gen(function*() {
          const { events, response } = yield* settledIn({ ...options, events: [new News({ n: 1 })] })
          const notFound = new Broker.BrokerNotFound({ topic: "news", event: "News.v1" })
          assert.strictEqual(response, "done")
          if (onFailure === "log") assert.deepStrictEqual(events, Exit.void)
          else {
            isFailure(
              events,
              onFailure === "failFast" ? notFound : new EventFlowError.EventsFailed({ failures: [notFound] })
            )
          }
        }))

      it.effect(`fails when the command's handler fails, dies or interrupts itself: ${given}`, () =>
        Effect.gen(function*() {
          isFailure(yield* Effect.exit(settledIn({ ...options, command: () => Effect.fail(boom) })), boom)
          assert.deepStrictEqual(
            yield* Effect.exit(settledIn({ ...options, command: () => Effect.die("bug") })),
            Exit.die("bug")
          )
          const interrupted = yield* Effect.exit(settledIn({ ...options, command: () => Effect.interrupt }))
          assert.isTrue(Exit.hasInterrupts(interrupted))
        }))

      it.effect(`is interrupted as a send is, in the handler and in the events: ${given}`, () =>
        Effect.gen(function*() {
          for (const where of ["command", "event"] as const) {
            const { entries, work } = new Journal()
            const slow = work(where, 1000)
            const fiber = yield* Effect.forkChild(
              settledIn({
                ...options,
                ...where === "command" ? { command: () => Effect.as(slow, "") } : { on: { A: () => slow } }
              }),
              { startImmediately: true }
            )
            yield* settle
            yield* Fiber.interrupt(fiber)
            assert.isTrue(Exit.hasInterrupts(yield* Fiber.await(fiber)))
            assert.deepStrictEqual(entries.map((entry) => entry.split("@")[0]), [
              `${where} starts`,
              `${where} interrupted`
            ])
          }
        }))
    }
  }

  it.effect("keeps a defect beside a failure", () =>
    Effect.gen(function*() {
      const { events } = yield* settledIn({
        onFailure: "accumulate",
        events: [new A({})],
        on: { A: () => Effect.fail(boom), A2: () => Effect.die("bug") }
      })
      assert.deepStrictEqual(
        Exit.isFailure(events) && events.cause.reasons,
        Cause.combine(Cause.fail(new EventFlowError.EventsFailed({ failures: [ofA] })), Cause.die("bug")).reasons
      )
    }))

  it.effect("an error of a command that the handler sends is the handler's", () =>
    Effect.gen(function*() {
      class Outer extends Command.Class<Outer>()("Outer", { error: Schema.Unknown, emits: [A], sends: [Do] }) {}
      const layer = EventFlow.make("Outside", { commands: [Outer] }).layer().pipe(
        Layer.provide(Outer.toLayer(() => Effect.asVoid(Mediator.send(new Do())))),
        Layer.provide(flow({ events: [new A({})], on: { A: () => Effect.fail(boom) } }))
      )
      isFailure(yield* Effect.exit(Effect.provide(Mediator.sendSettled(new Outer()), layer)), ofA)
    }))
})

describe("sendSettled, with middleware", () => {
  const OnA = EventHandler.make("OnA", { on: A, error: Boom })

  const setup = <const M extends ReadonlyArray<Middleware.Any>>(middleware: M) => {
    class Work extends Command.Class<Work>()("Work", { success: Schema.Int, error: Boom, emits: [A], middleware }) {}
    class Working extends EventFlow.make("Working", { commands: [Work], handlers: [OnA] }) {}
    return { Work, Working }
  }

  /** Runs of the handler answer 1, 2, 3, …; their events do `onA` with it. */
  const counting = (
    onA: (run: number) => Effect.Effect<void, Boom>,
    handler = (run: number) => Effect.succeed(run)
  ) => {
    let runs = 0
    return {
      handler: () => Effect.suspend(() => handler(++runs)),
      onA: OnA.toLayer(() => Effect.suspend(() => onA(runs)))
    }
  }

  const retry = Middleware.retry({ schedule: Schedule.recurs(2) })

  it.effect("retry tries again, and the answer is that of the last attempt", () =>
    Effect.gen(function*() {
      const { Work, Working } = setup([retry])
      const send = (
        onA: (run: number) => Effect.Effect<void, Boom>,
        handler?: (run: number) => Effect.Effect<number>
      ) => {
        const one = counting(onA, handler)
        const layer = Working.layer().pipe(
          Layer.provide([Work.toLayer((_, { collect }) => Effect.andThen(collect(new A({})), one.handler())), one.onA])
        )
        return Effect.exit(Effect.provide(Mediator.sendSettled(new Work()), layer))
      }
      const recovered = yield* send((run) => run < 3 ? Effect.fail(boom) : Effect.void)
      assert.deepStrictEqual(recovered, Exit.succeed({ response: 3, events: Exit.void }))
      const failed = yield* send(() => Effect.fail(boom))
      assert.strictEqual(Exit.isSuccess(failed) && failed.value.response, 3)
      if (Exit.isSuccess(failed)) isFailure(failed.value.events, ofA)
      // What comes after a failed event is the handler's failure
      const died = yield* send(() => Effect.fail(boom), (run) => run === 2 ? Effect.die("bug") : Effect.succeed(run))
      assert.deepStrictEqual(died, Exit.die("bug"))
    }))

  for (const where of ["handler", "event"] as const) {
    it.effect(`timeout interrupts the ${where} and is the failure: nothing is settled`, () =>
      Effect.gen(function*() {
        const { entries, work } = new Journal()
        const { Work, Working } = setup([Middleware.timeout(10)])
        const slow = work(where, 1000)
        const layer = Working.layer().pipe(
          Layer.provide([
            Work.toLayer((_, { collect }) =>
              Effect.as(Effect.andThen(collect(new A({})), where === "handler" ? slow : Effect.void), 1)
            ),
            OnA.toLayer(() => slow)
          ])
        )
        const exit = yield* passTime(Effect.provide(Mediator.sendSettled(new Work()), layer))
        isFailure(exit, new Middleware.CommandTimeout({ command: "Work", millis: 10 }))
        assert.deepStrictEqual(entries, [`${where} starts@0`, `${where} interrupted@10`])
      }))
  }

  it.effect("logging sees the failure of an event", () =>
    Effect.gen(function*() {
      const logger = new RecordingLogger("All")
      const { Work, Working } = setup([Middleware.logging])
      const layer = Working.layer().pipe(
        Layer.provide([
          Work.toLayer((_, { collect }) => Effect.as(collect(new A({})), 1)),
          OnA.toLayer(() => Effect.fail(boom))
        ]),
        Layer.provideMerge(logger.layer)
      )
      const { events, response } = yield* Effect.provide(Mediator.sendSettled(new Work()), layer)
      assert.strictEqual(response, 1)
      isFailure(events, ofA)
      assert.deepStrictEqual(logger.entries, ["Warn Command Work failed"])
    }))

  it.effect("an error that middleware makes of the failure of an event is the failure", () =>
    Effect.gen(function*() {
      class Refused extends Schema.TaggedError<Refused>()("Refused", {}) {}
      const refuse = Middleware.make((effect) => Effect.catchCause(effect, () => Effect.fail(new Refused())), {
        error: Refused
      })
      const { Work, Working } = setup([refuse])
      const layer = Working.layer().pipe(
        Layer.provide([
          Work.toLayer((_, { collect }) => Effect.as(collect(new A({})), 1)),
          OnA.toLayer(() => Effect.fail(boom))
        ])
      )
      isFailure(yield* Effect.exit(Effect.provide(Mediator.sendSettled(new Work()), layer)), new Refused())
    }))

  it.effect("a mediator of one's own settles likewise, and its errors are the failure", () =>
    Effect.gen(function*() {
      class Denied extends Schema.TaggedError<Denied>()("Denied", {}) {}
      let allowed = true
      const authorize = Middleware.make((effect) => allowed ? effect : Effect.fail(new Denied()), { error: Denied })
      class App extends Mediator.Service<App>()("test/SettledApp", { middleware: [authorize] }) {}
      const layer = Layer.merge(App.layer(), flow({ events: [new A({})], on: { A: () => Effect.fail(boom) } }))
      yield* Effect.gen(function*() {
        const { events, response } = yield* App.sendSettled(new Do())
        assert.strictEqual(response, "done")
        isFailure(events, ofA)
        allowed = false
        isFailure(yield* Effect.exit(App.sendSettled(new Do())), new Denied())
      }).pipe(Effect.provide(layer))
    }))
})

describe("isInfrastructureError", () => {
  class Denied extends Schema.TaggedError<Denied>()("Denied", {}) {}
  const deny = Middleware.make((effect) => effect, { error: Denied })
  class Book extends Command.Class<Book>()("Book", {
    error: Boom,
    emits: [A],
    middleware: [deny, Middleware.timeout("1 second")]
  }) {}
  // An error of its middleware that is one of its own as well
  class Own extends Command.Class<Own>()("Own", { error: Schema.Union([Boom, Denied]), middleware: [deny] }) {}

  it("tells the errors of events and of middleware from the command's own", () => {
    const isInfrastructure = Mediator.isInfrastructureError(Book)
    const infrastructure = [
      ofA,
      new EventFlowError.EventsFailed({ failures: [ofA] }),
      new EventFlowError.CascadeTooDeep({ event: "A", maxDepth: 1 }),
      new Broker.BrokerNotFound({ topic: "t", event: "A" }),
      new Denied(),
      new Middleware.CommandTimeout({ command: "Book", millis: 1000 })
    ]
    assert.deepStrictEqual(infrastructure.filter(isInfrastructure), infrastructure)
    const others: ReadonlyArray<unknown> = [boom, new Error("else"), undefined, { _tag: "Denied" }]
    assert.deepStrictEqual(others.filter(isInfrastructure), [])
    assert.isFalse(Mediator.isInfrastructureError(Own)(new Denied()))
  })

  it.effect("in Effect.catchIf, with all that a command can fail with", () =>
    Effect.gen(function*() {
      class Unavailable extends Schema.TaggedError<Unavailable>()("Unavailable", {}) {}
      const outcome = (command: Effect.Effect<void, Boom>, broker = new RecordingBroker().layer) => {
        class Save extends Command.Class<Save>()("Save", { error: Boom, emits: [News] }) {}
        const layer = alone(
          Save,
          Save.toLayer((_, { collect }) => Effect.andThen(collect(new News({ n: 1 })), command))
        ).pipe(Layer.provide(broker))
        return Mediator.send(new Save()).pipe(
          Effect.catchIf(Mediator.isInfrastructureError(Save), () => Effect.fail(new Unavailable())),
          Effect.provide(layer),
          Effect.exit,
          Effect.map(Exit.findErrorOption)
        )
      }
      assert.deepStrictEqual(yield* outcome(Effect.void), Option.none())
      assert.deepStrictEqual(yield* outcome(Effect.fail(boom)), Option.some(boom))
      assert.deepStrictEqual(yield* outcome(Effect.void, Broker.layerNone), Option.some(new Unavailable()))
    }))

  it.effect("failureSchema encodes and decodes all of it", () =>
    Effect.gen(function*() {
      const schema = Schema.toCodecJson(Command.failureSchema(Book) as Schema.Codec<unknown, unknown>)
      const timeout = new Middleware.CommandTimeout({ command: "Book", millis: 1000 })
      const tooDeep = new EventFlowError.CascadeTooDeep({ event: "A", maxDepth: 1 })
      for (
        const error of [boom, new Denied(), timeout, tooDeep, new EventFlowError.EventsFailed({ failures: [tooDeep] })]
      ) {
        const json = JSON.stringify(yield* Schema.encodeEffect(schema)(error))
        assert.deepStrictEqual(yield* Schema.decodeEffect(schema)(JSON.parse(json)), error)
      }
      assert.isTrue(Exit.isFailure(yield* Effect.exit(Schema.encodeEffect(schema)(new Error("else")))))
    }))
})
