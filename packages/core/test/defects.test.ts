/** A bug stays a bug: F13. */
import { assert, describe, it } from "@effect/vitest"
import { Command, EventFlow, Mediator, NotificationEvent } from "@event-flow/core"
import { Cause, Effect, Exit, Fiber, Layer, Option } from "effect"
import {
  A,
  B,
  Boom,
  C,
  D,
  Do,
  flow,
  Journal,
  News,
  passTime,
  RecordingBroker,
  RecordingLogger,
  settle
} from "./fixtures.ts"

describe("F13: defects stay defects", () => {
  const bug = new Error("bug")

  // `throw` in the function itself and not in its effect is one too
  const defects = {
    die: (): Effect.Effect<never> => Effect.die(bug),
    throw: (): Effect.Effect<never> => {
      throw bug
    }
  }

  const died = (exit: Exit.Exit<unknown, unknown>): void => {
    assert.isTrue(Exit.isFailure(exit))
    if (!Exit.isFailure(exit)) return
    assert.deepStrictEqual(exit.cause.reasons.filter(Cause.isDieReason).map((reason) => reason.defect), [bug])
  }

  for (const [how, defect] of Object.entries(defects)) {
    it.effect(`F13: in a command's handler, ${how}`, () =>
      Effect.gen(function*() {
        died(yield* Effect.exit(Mediator.send(new Do()).pipe(Effect.provide(flow({ command: defect })))))
      }))

    for (const concurrency of [1, 3]) {
      it.effect(`F13: in an event's handler, failFast, ${how}, concurrency ${concurrency}`, () =>
        Effect.gen(function*() {
          const { entries, note } = new Journal()
          const layer = flow({
            concurrency,
            events: [new A({}), new B({}), new C({}), new D({})],
            on: { A: defect, A2: () => note("A2"), B: () => Effect.never, C: () => Effect.never, D: () => note("D") }
          })
          const exit = yield* Effect.exit(Mediator.send(new Do()).pipe(Effect.provide(layer)))
          died(exit)
          assert.isTrue(Option.isNone(Exit.findErrorOption(exit)))
          assert.deepStrictEqual(entries, [])
        }))

      it.effect(`F13: in an event's handler, accumulate, ${how}, concurrency ${concurrency}`, () =>
        Effect.gen(function*() {
          const { entries, note } = new Journal()
          const layer = flow({
            concurrency,
            onFailure: "accumulate",
            events: [new A({}), new B({}), new C({})],
            on: { A: defect, A2: () => note("A2"), B: () => Effect.fail(new Boom({ id: "B" })), C: () => note("C") }
          })
          const exit = yield* Effect.exit(Mediator.send(new Do()).pipe(Effect.provide(layer)))
          died(exit)
          const error = Option.getOrThrow(Exit.findErrorOption(exit))
          assert.strictEqual(error._tag === "EventsFailed" && error.failures.length, 1)
          assert.deepStrictEqual(entries, ["A2", "C"])
        }))

      it.effect(`F13: in an event's handler, log, ${how}, concurrency ${concurrency}`, () =>
        Effect.gen(function*() {
          const { entries, note } = new Journal()
          const logger = new RecordingLogger()
          const layer = flow({
            concurrency,
            onFailure: "log",
            events: [new A({}), new B({}), new C({})],
            on: { A: defect, A2: () => note("A2"), B: () => Effect.fail(new Boom({ id: "B" })), C: () => note("C") }
          })
          const exit = yield* Effect.exit(Mediator.send(new Do()).pipe(Effect.provide([layer, logger.layer])))
          died(exit)
          assert.isTrue(Option.isNone(Exit.findErrorOption(exit)))
          assert.deepStrictEqual(entries, ["A2", "C"])
          assert.strictEqual(logger.entries.length, 1)
        }))

      for (const onFailure of ["failFast", "accumulate", "log"] as const) {
        it.effect(`F13: in the broker, ${onFailure}, ${how}, concurrency ${concurrency}`, () =>
          Effect.gen(function*() {
            const layer = flow({
              concurrency,
              onFailure,
              broker: new RecordingBroker(defect).layer,
              events: [new News({ n: 1 })]
            })
            died(yield* Effect.exit(Mediator.send(new Do()).pipe(Effect.provide(layer))))
          }))
      }
    }
  }

  it.effect("F13: a defect that shows while siblings are interrupted is kept beside the failure", () =>
    Effect.gen(function*() {
      const layer = flow({
        concurrency: 2,
        events: [new A({}), new B({})],
        on: {
          A: () => Effect.delay(Effect.fail(new Boom({ id: "A" })), 10),
          B: () => Effect.ensuring(Effect.never, Effect.die(bug))
        }
      })
      const exit = yield* passTime(Mediator.send(new Do()).pipe(Effect.provide(layer)))
      died(exit)
      assert.strictEqual(Option.getOrThrow(Exit.findErrorOption(exit))._tag, "EventHandlerError")
    }))

  for (const concurrency of [1, 2]) {
    it.effect(`F13: a defect that shows while a send is interrupted is kept, concurrency ${concurrency}`, () =>
      Effect.gen(function*() {
        const layer = flow({
          concurrency,
          events: [new B({})],
          on: { B: () => Effect.ensuring(Effect.never, Effect.die(bug)) }
        })
        const fiber = yield* Effect.forkChild(Mediator.send(new Do()).pipe(Effect.provide(layer)), {
          startImmediately: true
        })
        yield* settle
        yield* Fiber.interrupt(fiber)
        died(yield* Fiber.await(fiber))
      }))
  }

  it.effect("F13: a key function that throws", () =>
    Effect.gen(function*() {
      class Keyed extends NotificationEvent.Class<Keyed>()("Keyed", {}, {
        topic: "keyed",
        key: () => {
          throw bug
        }
      }) {}
      class Emit extends Command.Class<Emit>()("Emit", { emits: [Keyed] }) {}
      const layer = EventFlow.make("Emitting", { commands: [Emit] }).layer().pipe(
        Layer.provide(Emit.toLayer((_, { collect }) => collect(new Keyed()))),
        Layer.provide(new RecordingBroker().layer)
      )
      died(yield* Effect.exit(Mediator.send(new Emit()).pipe(Effect.provide(layer))))
    }))

  it.effect("F13: an undeclared failure does not pass for a defect: it names its handler all the same", () =>
    Effect.gen(function*() {
      // Only a cast gets it past the compiler
      const sneak = () => Effect.fail("undeclared") as unknown as Effect.Effect<void, Boom>
      const error = yield* Effect.flip(
        Mediator.send(new Do()).pipe(Effect.provide(flow({ events: [new A({})], on: { A: sneak } })))
      )
      assert.strictEqual(error.message, "Handler \"OnA\" of event \"A\" failed: undeclared")
    }))
})
