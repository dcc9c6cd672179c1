/** How deep a flow is, over nested sends: F18. */
import { assert, describe, it } from "@effect/vitest"
import {
  Command,
  ConsumerPolicy,
  Correlation,
  DomainEvent,
  EventConsumer,
  EventFlow,
  EventFlowError,
  EventHandler,
  Mediator,
  MemoryBroker,
  Middleware,
  NotificationEvent
} from "@event-flow/core"
import { RecordingBroker } from "@event-flow/core/testing"
import { Cause, Deferred, Effect, Exit, Fiber, Layer, Schedule, Schema, Stream } from "effect"
import { passTime } from "../fixtures.ts"

class A extends DomainEvent.Class<A>()("A", {}) {}
class B extends DomainEvent.Class<B>()("B", {}) {}
class Heard extends NotificationEvent.Class<Heard>()("Heard", {}, { topic: "heard" }) {}

/** The innermost cause of an error of an event handler, and of one around it. */
const innermost = (error: unknown): unknown =>
  error instanceof EventFlowError.EventHandlerError ?
    innermost(error.cause) :
    error instanceof EventFlowError.EventsFailed
    ? innermost(error.failures[0])
    : error

const isTooDeep = (exit: Exit.Exit<unknown, unknown>, maxDepth: number, event = "A"): void => {
  const error = innermost(Exit.isFailure(exit) ? Cause.squash(exit.cause) : exit)
  assert.deepStrictEqual(error, new EventFlowError.CascadeTooDeep({ event, maxDepth }))
}

describe("F18: a cycle through the mediator ends in CascadeTooDeep", () => {
  class Go extends Command.Class<Go>()("Go", { emits: [A] }) {}
  class Logged extends Command.Class<Logged>()("Logged", { emits: [A], middleware: [Middleware.logging] }) {}
  class Streamed extends Command.Class<Streamed>()("Streamed", { success: Schema.Int, emits: [A], stream: true }) {}
  class Own extends Mediator.Service<Own>()("test/OwnDeep", { middleware: [Middleware.logging] }) {}
  const Again = EventHandler.make("Again", { on: A, error: Schema.Unknown, sends: [Go, Logged, Streamed] })
  class Cycle extends EventFlow.make("Cycle", { commands: [Go, Logged, Streamed], handlers: [Again] }) {}

  const ways: Record<string, Effect.Effect<unknown, unknown, Command.Flows<"Go" | "Logged" | "Streamed"> | Own>> = {
    send: Mediator.send(new Go()),
    "send, of a command with middleware": Mediator.send(new Logged()),
    sendSettled: Effect.flatMap(Mediator.sendSettled(new Go()), ({ events }) => events),
    stream: Stream.runDrain(Mediator.stream(new Streamed())),
    "a mediator of one's own": Own.send(new Go()),
    "another fiber": Effect.scoped(
      Effect.flatMap(Effect.forkScoped(Mediator.send(new Go())), Fiber.join)
    )
  }
  for (const [way, send] of Object.entries(ways)) {
    for (const concurrency of [1, 3]) {
      it.effect(`F18: by ${way}, concurrency ${concurrency}`, () =>
        Effect.gen(function*() {
          let runs = 0
          const layer = Cycle.layer({ concurrency, maxDepth: 10 }).pipe(
            Layer.provide([
              Go.toLayer((_, { collect }) => collect(new A())),
              Logged.toLayer((_, { collect }) => collect(new A())),
              Streamed.toLayer((_, { collect }) => Stream.fromEffect(Effect.as(collect(new A()), 1))),
              Again.toLayer([Own], () => Effect.andThen(Effect.sync(() => runs++), Effect.asVoid(send)))
            ]),
            Layer.provideMerge(Own.layer())
          )
          isTooDeep(yield* Effect.exit(Effect.provide(send, layer)), 10)
          // The command's own event is at depth 0, so depths 0 to 10 run
          assert.strictEqual(runs, 11)
        }))
    }
  }

  for (const onFailure of ["accumulate", "log"] as const) {
    for (const concurrency of [1, 3]) {
      it.effect(`F18: ${onFailure}, concurrency ${concurrency}`, () =>
        Effect.gen(function*() {
          let runs = 0
          const Once = EventHandler.make("Once", { on: A, error: Schema.Unknown, sends: [Go] })
          const layer = EventFlow.make("Once", { commands: [Go], handlers: [Once] }).layer({
            concurrency,
            onFailure,
            maxDepth: 10
          }).pipe(
            Layer.provide([
              Go.toLayer((_, { collect }) => collect(new A())),
              Once.toLayer(() => Effect.andThen(Effect.sync(() => runs++), Mediator.send(new Go())))
            ])
          )
          const exit = yield* Effect.exit(Effect.provide(Mediator.send(new Go()), layer))
          if (onFailure === "log") assert.deepStrictEqual(exit, Exit.void)
          else isTooDeep(exit, 10)
          assert.strictEqual(runs, 11)
        }))
    }
  }

  for (const concurrency of [1, 3]) {
    it.effect(`F18: through two flows, concurrency ${concurrency}`, () =>
      Effect.gen(function*() {
        class Ping extends Command.Class<Ping>()("Ping", { emits: [A] }) {}
        class Pong extends Command.Class<Pong>()("Pong", { emits: [B] }) {}
        const OnA = EventHandler.make("OnA", { on: A, error: Schema.Unknown, sends: [Pong] })
        const OnB = EventHandler.make("OnB", { on: B, error: Schema.Unknown, sends: [Ping] })
        class First extends EventFlow.make("First", { commands: [Ping], handlers: [OnA] }) {}
        class Second extends EventFlow.make("Second", { commands: [Pong], handlers: [OnB] }) {}
        class Both extends EventFlow.make("Both", { flows: [First, Second] }) {}
        const implementations = Layer.mergeAll(
          Ping.toLayer((_, { collect }) => collect(new A())),
          Pong.toLayer((_, { collect }) => collect(new B())),
          OnA.toLayer(() => Mediator.send(new Pong()))
        )
        const joined = Both.layer({ concurrency, maxDepth: 10 }).pipe(
          Layer.provide([implementations, OnB.toLayer(() => Mediator.send(new Ping()))])
        )
        isTooDeep(yield* Effect.exit(Effect.provide(Mediator.send(new Ping()), joined)), 10, "B")

        // Apart, the second one cannot require the first: it is given what it sends when that is built
        let sendPing: Effect.Effect<void, unknown> = Effect.void
        const Late = EventHandler.make("Late", { on: B, error: Schema.Unknown })
        class Apart extends EventFlow.make("Apart", { commands: [Pong], handlers: [Late] }) {}
        const second = Apart.layer({ concurrency, maxDepth: 10 }).pipe(
          Layer.provide([implementations, Late.toLayer(() => Effect.suspend(() => sendPing))])
        )
        const apart = First.layer({ concurrency, maxDepth: 10 }).pipe(
          Layer.provide(implementations),
          Layer.provide(second)
        )
        const context = yield* Layer.build(apart)
        sendPing = Effect.provideContext(Mediator.send(new Ping()), context)
        isTooDeep(yield* Effect.exit(sendPing), 10, "B")
      }))
  }
})

describe("F18: what is no deeper", () => {
  class Chain extends DomainEvent.Class<Chain>()("Chain", { left: Schema.Int }) {}
  class Run extends Command.Class<Run>()("Run", { payload: { chains: Schema.Array(Schema.Int) }, emits: [Chain] }) {}
  const Link = EventHandler.make("Link", { on: Chain, emits: [Chain], sends: [Run] })
  class Running extends EventFlow.make("Running", { commands: [Run], handlers: [Link] }) {}

  for (const concurrency of [1, 3]) {
    const layer = (nested: number) =>
      Running.layer({ concurrency, maxDepth: 3 }).pipe(
        Layer.provide([
          Run.toLayer(({ chains }, { collectAll }) => collectAll(chains.map((left) => new Chain({ left })))),
          Link.toLayer(Effect.fnUntraced(function*({ left }, { collect }) {
            // A handler at depth d sends commands whose events are at depth d
            if (left > 1) {
              for (let i = 0; i < nested; i++) yield* Effect.orDie(Mediator.send(new Run({ chains: [left - 1] })))
            }
            if (left > 0) yield* collect(new Chain({ left: left - 1 }))
          }))
        ])
      )

    it.effect(`F18: a sibling, concurrency ${concurrency}`, () =>
      Effect.gen(function*() {
        const run = Mediator.send(new Run({ chains: [3, ...Array.from({ length: 50 }, () => 1), 3, 2] }))
        yield* Effect.repeat(run, { times: 5 }).pipe(Effect.provide(layer(3)))
        const deeper = yield* Effect.exit(Effect.provide(Mediator.send(new Run({ chains: [1, 4] })), layer(0)))
        assert.strictEqual(
          Exit.isFailure(deeper) && (Cause.squash(deeper.cause) as { _tag: string })._tag,
          "CascadeTooDeep"
        )
      }))
  }

  for (const concurrency of [1, 3]) {
    it.effect(`F18: another attempt of a delivery, concurrency ${concurrency}`, () =>
      Effect.gen(function*() {
        const OnHeard = EventHandler.make("OnHeard", { on: Heard, emits: [A] })
        const Fails = EventHandler.make("Fails", { on: A, error: Schema.String })
        class Tell extends Command.Class<Tell>()("Tell", { emits: [Heard] }) {}
        const Hearing = EventFlow.make("Hearing", { commands: [Tell], handlers: [OnHeard, Fails] })
        let attempts = 0
        const layer = EventConsumer.layer(Hearing, {
          group: "group",
          policy: () => ConsumerPolicy.retry(Schedule.recurs(20))
        }).pipe(
          Layer.provideMerge(Hearing.layer({ concurrency, maxDepth: 3 })),
          Layer.provide([
            Tell.toLayer((_, { collect }) => collect(new Heard())),
            OnHeard.toLayer((_, { collect }) => collect(new A())),
            Fails.toLayer(() => ++attempts < 10 ? Effect.fail("not yet") : Effect.void)
          ]),
          Layer.provideMerge(MemoryBroker.layer())
        )
        yield* Effect.gen(function*() {
          const { awaitIdle, messages } = yield* MemoryBroker.MemoryBroker
          yield* Mediator.send(new Tell())
          yield* passTime(awaitIdle)
          assert.deepStrictEqual([attempts, yield* messages("heard.dead-letter")], [10, []])
        }).pipe(Effect.provide(layer))
      }))
  }

  for (const concurrency of [1, 3]) {
    it.effect(`F18: what a command forks, when its events have failed, concurrency ${concurrency}`, () =>
      Effect.gen(function*() {
        class Tick extends Command.Class<Tick>()("Tick", { payload: { left: Schema.Int }, emits: [A] }) {}
        const Fails = EventHandler.make("Fails", { on: A, error: Schema.String })
        const Ticking = EventFlow.make("Ticking", { commands: [Tick], handlers: [Fails] })
        const ended = yield* Deferred.make<void>()
        let failures = 0
        const layer = Ticking.layer({ concurrency, maxDepth: 3 }).pipe(
          Layer.provide([
            Tick.toLayer(Effect.fnUntraced(function*({ left }, { collect }) {
              const next = left === 0 ? Deferred.succeed(ended, undefined) : Mediator.send(new Tick({ left: left - 1 }))
              yield* Effect.forkDetach(Effect.delay(next, "1 second"))
              yield* collect(new A())
            })),
            Fails.toLayer(() => Effect.suspend(() => Effect.fail(String(failures++))))
          ])
        )
        yield* Effect.exit(Mediator.send(new Tick({ left: 9 }))).pipe(
          Effect.andThen(passTime(Deferred.await(ended))),
          Effect.provide(layer)
        )
        assert.strictEqual(failures, 10)
      }))
  }

  class Surfaced extends NotificationEvent.Class<Surfaced>()("Surfaced", {}, { topic: "t" }) {}

  for (const middleware of [[], [Middleware.logging]]) {
    it.effect(`F18: 10,000 sends in one another, without events, ${middleware.length} middleware`, () =>
      Effect.gen(function*() {
        class Deep extends Command.Class<Deep>()("Deep", {
          payload: { left: Schema.Int },
          success: Schema.String,
          emits: [Surfaced],
          middleware
        }) {}
        const layer = EventFlow.make("Deeper", { commands: [Deep] }).layer({ maxDepth: 3 }).pipe(
          Layer.provide(Deep.toLayer(({ left }, { collect }) =>
            left === 0
              ? Effect.andThen(
                collect(new Surfaced()),
                Effect.map(Correlation.current, (correlation) => correlation!.correlationId)
              )
              : Effect.orDie(Mediator.send(new Deep({ left: left - 1 })))
          )),
          Layer.provideMerge(RecordingBroker.layer)
        )
        yield* Effect.gen(function*() {
          const id = yield* Mediator.send(new Deep({ left: 10_000 })).pipe(
            Correlation.provide(Correlation.make("ours"))
          )
          assert.strictEqual(id, "ours")
          const [message] = yield* RecordingBroker.RecordingBroker.use(({ published }) => published)
          assert.strictEqual(message!.attributes["correlationid"], "ours")
          yield* Mediator.send(new Deep({ left: 10_000 }))
        }).pipe(Effect.provide(layer))
      }))
  }
})
