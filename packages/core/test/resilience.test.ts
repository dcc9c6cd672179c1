import { assert, describe, it } from "@effect/vitest"
import { Command, DomainEvent, EventFlow, EventHandler, Mediator, Resilience } from "@event-flow/core"
import { Cause, Effect, Exit, Fiber, Layer, pipe, Schedule, Schema } from "effect"
import { CircuitBreaker } from "effect/persistence"
import { TestClock } from "effect/testing"
import { adjust } from "./fixtures.ts"

class Full extends Schema.TaggedError<Full>()("Full", {}) {}
class Down extends Schema.TaggedError<Down>()("Down", {}) {}

class Noted extends DomainEvent.Class<Noted>()("Noted", { text: Schema.String }) {}

class Join extends Command.Class<Join>()("Join", {
  payload: { userId: Schema.String },
  success: Schema.String,
  error: Schema.Union([Full, Down, Resilience.HandlerTimeout, CircuitBreaker.CircuitBreakerError]),
  emits: [Noted]
}) {}

const Log = EventHandler.make("Log", { on: Noted, emits: [Noted], error: Down })
class Joining extends EventFlow.make("Joining", { commands: [Join], handlers: [Log] }) {}

type JoinHandler = ReturnType<typeof Join.of<never>>
type LogHandler = ReturnType<typeof Log.of<never>>

/** Sends a command through a flow; gives its exit and what the events said. */
const run = Effect.fnUntraced(function*(handler: JoinHandler, sends = 1, onNoted?: LogHandler) {
  const noted: Array<string> = []
  const layer = Joining.layer().pipe(
    Layer.provide([
      Join.toLayer(handler),
      Log.toLayer((event, context) =>
        Effect.andThen(Effect.sync(() => noted.push(event.text)), onNoted?.(event, context) ?? Effect.void)
      )
    ])
  )
  const exits = yield* Effect.forEach(
    Array.from({ length: sends }),
    () => Effect.exit(Mediator.send(new Join({ userId: "u" })))
  ).pipe(Effect.provide(layer))
  return { exit: exits[exits.length - 1]!, exits, noted }
})

/** Runs an effect while virtual time passes. */
const passing = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
  Effect.gen(function*() {
    const fiber = yield* Effect.forkChild(effect, { startImmediately: true })
    yield* adjust("1 hour")
    return yield* Fiber.join(fiber)
  })

const counter = () => {
  let n = 0
  return () => ++n
}

const errorTag = (exit: Exit.Exit<unknown, unknown>): string =>
  Exit.isSuccess(exit) ? "success" : (Cause.squash(exit.cause) as { readonly _tag?: string })._tag ?? "defect"

const breakerLayer = CircuitBreaker.layer({
  tripPolicy: CircuitBreaker.consecutive(2),
  openDuration: "1 minute"
}).pipe(Layer.provide(CircuitBreaker.layerStoreMemory()))

describe("Resilience.retry", () => {
  it.effect("F2: each attempt collects afresh, and only the one that succeeds counts", () =>
    Effect.gen(function*() {
      const next = counter()
      const { exit, noted } = yield* run(Resilience.retry(
        Join.of(Effect.fnUntraced(function*(_, { collect, collectAll }) {
          const n = next()
          yield* collect(new Noted({ text: `attempt ${n}` }))
          if (n < 3) return yield* new Down()
          yield* collectAll([new Noted({ text: "one" }), new Noted({ text: "two" })])
          return `done after ${n}`
        })),
        { schedule: Schedule.recurs(5) }
      ))
      assert.deepStrictEqual(exit, Exit.succeed("done after 3"))
      assert.deepStrictEqual(noted, ["attempt 3", "one", "two"])
    }))

  it.effect("follows the schedule, and fails with the last error", () =>
    Effect.gen(function*() {
      const next = counter()
      const times: Array<number> = []
      const { exit, noted } = yield* passing(run(Resilience.retry(
        Join.of((_, { collect }) =>
          collect(new Noted({ text: "lost" })).pipe(
            Effect.andThen(
              TestClock.testClockWith((clock) => Effect.sync(() => times.push(clock.currentTimeMillisUnsafe())))
            ),
            Effect.andThen(Effect.suspend(() => Effect.fail(next() < 3 ? new Down() : new Full())))
          )
        ),
        { schedule: Schedule.exponential("100 millis").pipe(Schedule.upTo({ times: 2 })) }
      )))
      assert.strictEqual(errorTag(exit), "Full")
      assert.deepStrictEqual(times, [0, 100, 300])
      assert.deepStrictEqual(noted, [])
    }))

  it.effect("retries the failures that `while` names", () =>
    Effect.gen(function*() {
      const next = counter()
      const { exit } = yield* run(Resilience.retry(
        Join.of(() => Effect.suspend(() => Effect.fail(next() === 1 ? new Down() : new Full()))),
        { schedule: Schedule.recurs(5), while: (error) => error._tag === "Down" }
      ))
      assert.strictEqual(errorTag(exit), "Full")
      assert.strictEqual(next(), 3)
    }))

  it.effect("F13: a defect is not retried", () =>
    Effect.gen(function*() {
      const next = counter()
      const { exit } = yield* run(Resilience.retry(
        Join.of(() => {
          throw new Error(`bug ${next()}`)
        }),
        { schedule: Schedule.recurs(5) }
      ))
      assert.isTrue(Exit.isFailure(exit) && Cause.hasDies(exit.cause))
      assert.strictEqual(next(), 2)
    }))

  it.effect("interruption is not retried", () =>
    Effect.gen(function*() {
      const next = counter()
      const { exit } = yield* run(Resilience.retry(
        Join.of(() => Effect.suspend(() => (next(), Effect.interrupt))),
        { schedule: Schedule.recurs(5) }
      ))
      assert.isTrue(Exit.isFailure(exit) && Cause.hasInterruptsOnly(exit.cause))
      assert.strictEqual(next(), 2)
    }))

  it.effect("F2: also for event handlers, whose follow-ups are those of the last attempt", () =>
    Effect.gen(function*() {
      const next = counter()
      const { exit, noted } = yield* run(
        (_, { collect }) => Effect.as(collect(new Noted({ text: "start" })), "ok"),
        1,
        Resilience.retry(
          Log.of((event, { collect }) => {
            if (event.text !== "start") return Effect.void
            return Effect.suspend(() => {
              const n = next()
              return Effect.andThen(
                collect(new Noted({ text: `attempt ${n}` })),
                n < 3 ? Effect.fail(new Down()) : Effect.void
              )
            })
          }),
          { schedule: Schedule.recurs(5) }
        )
      )
      assert.deepStrictEqual(exit, Exit.succeed("ok"))
      assert.deepStrictEqual(noted, ["start", "attempt 3"])
    }))

  it.effect("an event collected by a fiber that outlives its attempt is a defect of that fiber", () =>
    Effect.gen(function*() {
      let late: Fiber.Fiber<void> | undefined
      const next = counter()
      const { exit, noted } = yield* passing(run(Resilience.retry(
        Join.of(Effect.fnUntraced(function*(_, { collect }) {
          if (next() > 1) return "ok"
          late = yield* Effect.forkDetach(
            Effect.delay(collect(new Noted({ text: "late" })), "1 second"),
            { startImmediately: true }
          )
          return yield* new Down()
        })),
        { schedule: Schedule.spaced("1 minute") }
      )))
      assert.deepStrictEqual(exit, Exit.succeed("ok"))
      assert.deepStrictEqual(noted, [])
      const ended = yield* Fiber.await(late!)
      assert.isTrue(Exit.isFailure(ended) && Cause.pretty(ended.cause).includes("after its handler had ended"))
    }))
})

describe("Resilience.timeout", () => {
  it.effect("interrupts the handler, names what was handled, and drops what it collected", () =>
    Effect.gen(function*() {
      let interrupted = false
      const { exit, noted } = yield* passing(run(Resilience.timeout(
        Join.of((_, { collect }) =>
          collect(new Noted({ text: "lost" })).pipe(
            Effect.andThen(Effect.never),
            Effect.onInterrupt(() => Effect.sync(() => (interrupted = true)))
          )
        ),
        "2 seconds"
      )))
      assert.deepStrictEqual(exit, Exit.fail(new Resilience.HandlerTimeout({ handling: "Join", millis: 2000 })))
      assert.isTrue(interrupted)
      assert.deepStrictEqual(noted, [])
    }))

  it.effect("leaves a handler alone that is in time", () =>
    Effect.gen(function*() {
      const { exit, noted } = yield* passing(run(Resilience.timeout(
        Join.of((_, { collect }) => Effect.as(Effect.delay(collect(new Noted({ text: "in time" })), "1 second"), "ok")),
        "2 seconds"
      )))
      assert.deepStrictEqual(exit, Exit.succeed("ok"))
      assert.deepStrictEqual(noted, ["in time"])
    }))
})

describe("Resilience.fallback", () => {
  const failing = (error: Full | Down) =>
    Join.of((_, { collect }) => Effect.andThen(collect(new Noted({ text: "primary" })), Effect.fail(error)))

  it.effect("drops what the primary collected and keeps what the fallback collects", () =>
    Effect.gen(function*() {
      const { exit, noted } = yield* run(Resilience.fallback(failing(new Down()), {
        to: (command, { collect }, error) =>
          Effect.as(collect(new Noted({ text: `fallback for ${error._tag}` })), command.userId)
      }))
      assert.deepStrictEqual(exit, Exit.succeed("u"))
      assert.deepStrictEqual(noted, ["fallback for Down"])
    }))

  it.effect("does not run when the primary succeeds", () =>
    Effect.gen(function*() {
      const { exit, noted } = yield* run(Resilience.fallback(
        Join.of((_, { collect }) => Effect.as(collect(new Noted({ text: "primary" })), "primary")),
        { to: () => Effect.die("not reached") }
      ))
      assert.deepStrictEqual(exit, Exit.succeed("primary"))
      assert.deepStrictEqual(noted, ["primary"])
    }))

  it.effect("takes the tags in `on` and leaves the others", () =>
    Effect.gen(function*() {
      const guard = (error: Full | Down) =>
        run(Resilience.fallback(failing(error), { on: ["Down"], to: () => Effect.succeed("fallback") }))
      const down = yield* guard(new Down())
      const full = yield* guard(new Full())
      assert.deepStrictEqual(down.exit, Exit.succeed("fallback"))
      assert.strictEqual(errorTag(full.exit), "Full")
      assert.deepStrictEqual(full.noted, [])
    }))

  it.effect("F13: neither defects nor interruption are fallen back from", () =>
    Effect.gen(function*() {
      const died = yield* run(Resilience.fallback(Join.of(() => Effect.die("bug")), {
        to: () => Effect.succeed("fallback")
      }))
      const interrupted = yield* run(Resilience.fallback(Join.of(() => Effect.interrupt), {
        to: () => Effect.succeed("fallback")
      }))
      assert.isTrue(Exit.isFailure(died.exit) && Cause.hasDies(died.exit.cause))
      assert.isTrue(Exit.isFailure(interrupted.exit) && Cause.hasInterruptsOnly(interrupted.exit.cause))
    }))

  it.effect("a fallback of a fallback that fails emits nothing", () =>
    Effect.gen(function*() {
      const first = Resilience.fallback(failing(new Down()), {
        to: (_, { collect }) => Effect.andThen(collect(new Noted({ text: "second" })), Effect.fail(new Full()))
      })
      const { exit, noted } = yield* run(Resilience.fallback(first, { to: () => Effect.succeed("third") }))
      assert.deepStrictEqual(exit, Exit.succeed("third"))
      assert.deepStrictEqual(noted, [])
    }))
})

describe("Resilience.circuitBreaker", () => {
  it.effect("opens, rejects without running the handler, and closes again", () =>
    Effect.gen(function*() {
      const breaker = yield* CircuitBreaker.CircuitBreaker
      let runs = 0
      let isHealthy = false
      const guarded = Resilience.circuitBreaker(
        Join.of((_, { collect }) =>
          Effect.suspend(() => {
            runs++
            return isHealthy ? Effect.as(collect(new Noted({ text: "ok" })), "ok") : Effect.fail(new Down())
          })
        ),
        breaker
      )
      const broken = yield* run(guarded, 4)
      assert.deepStrictEqual(broken.exits.map(errorTag), ["Down", "Down", "CircuitBreakerError", "CircuitBreakerError"])
      assert.strictEqual(runs, 2)
      assert.strictEqual((yield* breaker.state("Join"))._tag, "Open")
      isHealthy = true
      yield* adjust("1 minute")
      const healthy = yield* run(guarded)
      assert.deepStrictEqual(healthy.exit, Exit.succeed("ok"))
      assert.deepStrictEqual(healthy.noted, ["ok"])
    }).pipe(Effect.provide(breakerLayer)))

  it.effect("`key` gives each message its circuit, and a fallback takes the rejections", () =>
    Effect.gen(function*() {
      const breaker = yield* CircuitBreaker.CircuitBreaker
      const guarded = Resilience.circuitBreaker(
        Join.of((_, { collect }) => Effect.andThen(collect(new Noted({ text: "lost" })), Effect.fail(new Down()))),
        breaker,
        { key: (command) => command.userId }
      )
      const { exits, noted } = yield* run(
        Resilience.fallback(guarded, {
          on: ["CircuitBreakerError"],
          to: (command, { collect }, error) =>
            Effect.as(collect(new Noted({ text: error.reason._tag })), command.userId)
        }),
        3
      )
      assert.deepStrictEqual(exits.map(errorTag), ["Down", "Down", "success"])
      assert.deepStrictEqual(noted, ["CircuitOpen"])
      assert.strictEqual((yield* breaker.state("u"))._tag, "Open")
      assert.strictEqual((yield* breaker.state("Join"))._tag, "Closed")
    }).pipe(Effect.provide(breakerLayer)))

  it.effect("`classify` says what counts", () =>
    Effect.gen(function*() {
      const breaker = yield* CircuitBreaker.CircuitBreaker
      const { exits } = yield* run(
        Resilience.circuitBreaker(Join.of(() => Effect.fail(new Full())), breaker, {
          classify: (exit) => Exit.isFailure(exit) ? CircuitBreaker.ignored : CircuitBreaker.success
        }),
        5
      )
      assert.deepStrictEqual(exits.map(errorTag), ["Full", "Full", "Full", "Full", "Full"])
    }).pipe(Effect.provide(breakerLayer)))

  it.effect("in a pipe: a timeout counts as a failure, the rejection goes to the fallback", () =>
    Effect.gen(function*() {
      const breaker = yield* CircuitBreaker.CircuitBreaker
      const guarded = pipe(
        Resilience.handler(Join)(() => Effect.never),
        Resilience.timeout("1 second"),
        Resilience.circuitBreaker(breaker),
        Resilience.fallback({
          on: ["HandlerTimeout", "CircuitBreakerError"],
          to: (_, { collect }, error) => Effect.as(collect(new Noted({ text: error._tag })), "fallback")
        })
      )
      const { exits, noted } = yield* passing(run(guarded, 3))
      assert.deepStrictEqual(exits, [Exit.succeed("fallback"), Exit.succeed("fallback"), Exit.succeed("fallback")])
      assert.deepStrictEqual(noted, ["HandlerTimeout", "HandlerTimeout", "CircuitBreakerError"])
    }).pipe(Effect.provide(breakerLayer)))
})
