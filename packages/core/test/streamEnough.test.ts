/** A consumer of a stream that has had enough: the command has succeeded. */
import { assert, describe, it } from "@effect/vitest"
import { Command, DomainEvent, EventFlow, EventHandler, Mediator, Middleware, Telemetry } from "@event-flow/core"
import { Expect, Flow, Tracker } from "@event-flow/core/testing"
import { Deferred, Effect, Fiber, Layer, Metric, Schema, Stream } from "effect"
import { RecordingLogger } from "./fixtures.ts"

class Told extends DomainEvent.Class<Told>()("Told", { n: Schema.Int }) {}
class Watch extends Command.Class<Watch>()("Watch", {
  success: Schema.Int,
  stream: true,
  emits: [Told],
  middleware: [Middleware.logging]
}) {}
const Hear = EventHandler.make("Hear", { on: Told })
class Watching extends EventFlow.make("Watching", { commands: [Watch], handlers: [Hear] }) {}

const main = Watching.layer().pipe(
  Layer.provide([
    Watch.toLayer((_, { collect }) => Stream.tap(Stream.range(1, 5), (n) => collect(new Told({ n })))),
    Hear.toLayer(() => Effect.void)
  ]),
  Layer.provide(Telemetry.layer({ metrics: true })),
  Layer.provideMerge(Tracker.layer)
)

const count = (attributes: Readonly<Record<string, string>>) =>
  Effect.map(
    Metric.value(Metric.withAttributes(Telemetry.commandDuration, { "event_flow.command": "Watch", ...attributes })),
    ({ count }) => count
  )

/** Runs a consumer of the stream: the flow, the log, and how often which end was counted. */
const observed = <A, E>(
  consume: (
    stream: Stream.Stream<number, unknown, Command.CommandFlow<"Watch">>
  ) => Effect.Effect<A, E, Command.CommandFlow<"Watch">>
) =>
  Effect.gen(function*() {
    const logger = new RecordingLogger("Debug")
    const { flow } = yield* Tracker.run(consume(Mediator.stream(new Watch()))).pipe(Effect.provide(logger.layer))
    const counts = { succeeded: yield* count({}), interrupted: yield* count({ "error.type": "interrupted" }) }
    return { flow, counts, log: logger.entries }
  }).pipe(Effect.provide(main), Effect.provideService(Metric.MetricRegistry, new Map()))

describe("a consumer that has had enough", () => {
  const ways: Record<string, Parameters<typeof observed<unknown, unknown>>[0]> = {
    "take": (stream) => Stream.runCollect(Stream.take(stream, 2)),
    "takeUntil": (stream) => Stream.runCollect(Stream.takeUntil(stream, (n) => n === 3)),
    "the first element": Stream.runHead,
    "zipped with a shorter one": (stream) => Stream.runCollect(Stream.zip(stream, Stream.make("a", "b"))),
    "to its end": Stream.runCollect
  }
  for (const [name, consume] of Object.entries(ways)) {
    it.effect(name, () =>
      Effect.gen(function*() {
        const { counts, flow, log } = yield* observed(consume)
        Expect.noFailures(flow)
        assert.strictEqual(Flow.describe(flow.commands[0]!), "✓ Watch")
        assert.deepStrictEqual(counts, { succeeded: 1, interrupted: 0 })
        assert.deepStrictEqual(log, ["Debug Command Watch succeeded"])
      }))
  }
})

describe("a consumer that is interrupted, or fails", () => {
  const ways: Record<string, Parameters<typeof observed<unknown, unknown>>[0]> = {
    "is interrupted": (stream) =>
      Effect.gen(function*() {
        const reached = yield* Deferred.make<void>()
        const fiber = yield* Effect.forkChild(
          Stream.runForEach(stream, () => Effect.andThen(Deferred.succeed(reached, undefined), Effect.never))
        )
        yield* Deferred.await(reached)
        yield* Fiber.interrupt(fiber)
      }),
    "fails": (stream) => Stream.runForEach(stream, () => Effect.fail("no"))
  }
  for (const [name, consume] of Object.entries(ways)) {
    it.effect(`${name}: the command is interrupted`, () =>
      Effect.gen(function*() {
        const { counts, flow, log } = yield* observed(consume)
        assert.strictEqual(Flow.describe(flow.commands[0]!), "⊘ Watch: interrupted")
        assert.deepStrictEqual(counts, { succeeded: 0, interrupted: 1 })
        assert.deepStrictEqual(log, ["Debug Command Watch was interrupted"])
      }))
  }
})
