/**
 * Runs an effect, waits until all work that it has caused is finished, and says
 * what happened.
 *
 * **Example** (A whole flow, the way through the broker included)
 *
 * ```ts
 * import { Command, EventConsumer, EventFlow, EventHandler, Mediator, NotificationEvent } from "@event-flow/core"
 * import { Expect, Tracker } from "@event-flow/core/testing"
 * import { Effect, Layer } from "effect"
 *
 * class Announced extends NotificationEvent.Class<Announced>()("Announced", {}, { topic: "meetings" }) {}
 * class Announce extends Command.Class<Announce>()("Announce", { emits: [Announced] }) {}
 * const Show = EventHandler.make("Show", { on: Announced })
 *
 * class Meetings extends EventFlow.make("Meetings", { commands: [Announce], handlers: [Show] }) {}
 *
 * const App = EventConsumer.layer(Meetings, { group: "board" }).pipe(
 *   Layer.provideMerge(Meetings.layer()),
 *   Layer.provide([
 *     Announce.toLayer((_, { collect }) => collect(new Announced())),
 *     Show.toLayer(() => Effect.void)
 *   ]),
 *   Layer.provideMerge(Tracker.layerMemoryBroker())
 * )
 *
 * const test = Effect.gen(function*() {
 *   const { flow } = yield* Tracker.run(Mediator.send(new Announce()))
 *   Expect.exactly(flow, { published: [Announced], consumed: [Announced], handlers: [Show] })
 * })
 *
 * Effect.runPromise(Effect.provide(test, App))
 * ```
 *
 * @stability unstable
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import type * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Semaphore from "effect/Semaphore"
import type * as Broker from "../Broker.ts"
import type * as FlowObserver from "../FlowObserver.ts"
import { addObserver } from "../internal/dispatch/observerKeys.ts"
import * as MemoryBroker from "../MemoryBroker.ts"
import type * as Subscriber from "../Subscriber.ts"
import * as Flow from "./Flow.ts"
import { Recorder } from "./recorder.ts"

/**
 * What a tracked run gives.
 *
 * @stability unstable
 * @category models
 * @since 0.1.0
 */
export interface Tracked<out A, out E> {
  readonly exit: Exit.Exit<A, E>
  readonly flow: Flow.Flow
}

/**
 * Tracks runs.
 *
 * @stability unstable
 * @category services
 * @since 0.1.0
 */
export class Tracker extends Context.Service<Tracker, {
  /** See `Tracker.run`. */
  readonly run: <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.Effect<Tracked<A, E>, never, R>
  /** What the current run has seen so far. */
  readonly soFar: Effect.Effect<Flow.Flow>
}>()("@event-flow/core/testing/Tracker") {}

/**
 * Runs an effect, then waits until all is done that it led to: commands, event
 * handlers and their follow-ups, also in detached fibers, and with
 * `layerMemoryBroker` every message until each consumer group has acknowledged
 * it, with all that consuming it led to.
 *
 * **Details**
 *
 * No timer is involved: it waits for conditions. Where the program itself waits
 * for time, in a retry or a timeout, run it in a fiber and let `TestClock` pass
 * the time:
 *
 * ```ts
 * import { Tracker } from "@event-flow/core/testing"
 * import { Effect, Fiber } from "effect"
 * import { TestClock } from "effect/testing"
 *
 * const test = Effect.gen(function*() {
 *   const fiber = yield* Effect.forkChild(Tracker.run(Effect.sleep("1 minute")), { startImmediately: true })
 *   yield* TestClock.adjust("1 minute")
 *   return yield* Fiber.join(fiber)
 * })
 * ```
 *
 * The runs of one tracker wait for one another: build a tracker for each test.
 *
 * **Gotchas**
 *
 * It waits as long as it takes. A message that no running consumer of its group
 * will acknowledge keeps it waiting; so do not provide the consumer inside of
 * `effect`, which would end it too early. Interrupted while it waits (by a
 * test's timeout), it logs what it was waiting for. A detached fiber is seen
 * when it sends a command. The run waits for fibers that send at once, or after a
 * few turns of the event loop; one that waits for something else before it sends
 * may come too late.
 *
 * @stability unstable
 * @category running
 * @since 0.1.0
 */
export const run = <A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<Tracked<A, E>, never, R | Tracker> =>
  Effect.flatMap(Tracker, (tracker) => tracker.run(effect))

/**
 * A tracker of the flows that are built below it (`Layer.provideMerge`).
 *
 * **Gotchas**
 *
 * It does not wait for messages; see `layerMemoryBroker`.
 *
 * @stability unstable
 * @category layers
 * @since 0.1.0
 */
export const layer: Layer.Layer<Tracker> = Layer.effectContext(Effect.sync(() => make(undefined)))

/**
 * A tracker with a memory broker of its own, which waits for its messages.
 *
 * @stability unstable
 * @category layers
 * @since 0.1.0
 */
export const layerMemoryBroker = (
  options?: MemoryBroker.Options
): Layer.Layer<Tracker | Broker.Broker | Subscriber.Subscriber | MemoryBroker.MemoryBroker> =>
  Layer.provideMerge(
    Layer.effectContext(Effect.map(MemoryBroker.MemoryBroker, make)),
    MemoryBroker.layer(options)
  )

/**
 * What an observer has seen so far.
 *
 * @stability unstable
 * @category models
 * @since 0.1.0
 */
export interface Recording {
  /** Give it to the flows to record, with `FlowObserver.layer`. */
  readonly observer: FlowObserver.FlowObserver
  /** Everything since the recording was made. */
  readonly flow: Flow.Flow
}

/**
 * Records flows outside of a tracked run, for as long as the recording is kept: of
 * a program that runs on, or of several that are built apart.
 *
 * @stability unstable
 * @category constructors
 * @since 0.1.0
 */
export const makeRecording = (): Recording => {
  const recorder = new Recorder()
  recorder.begin()
  return {
    observer: recorder,
    get flow() {
      return recorder.flow
    }
  }
}

// --- internal ---

/** How many turns of the event loop must pass without anything new before a run counts as done. */
const quietTurns = 10

/** Inside of a tracked run, where another one would wait for itself. */
const IsTracked = Context.Reference<boolean>("@event-flow/core/testing/Tracker/IsTracked", {
  defaultValue: () => false
})

const make = (broker: MemoryBroker.MemoryBroker["Service"] | undefined): Context.Context<Tracker> => {
  const recorder = new Recorder()
  const oneAtATime = Semaphore.makeUnsafe(1)
  const messagesDone = broker?.awaitIdle ?? Effect.void
  const pending = broker?.pending ?? Effect.succeed(0)

  const allDone: Effect.Effect<void> = Effect.suspend(() => {
    const started = recorder.started
    return recorder.awaitIdle.pipe(
      Effect.andThen(messagesDone),
      // Whatever ran may have forked a fiber that has not begun yet
      Effect.andThen(Effect.repeat(Effect.yieldNow, { times: quietTurns, while: () => recorder.started === started })),
      Effect.andThen(pending),
      Effect.flatMap((messages) =>
        messages === 0 && recorder.running === 0 && recorder.started === started ? Effect.void : allDone
      )
    )
  })

  const waitingFor = Effect.flatMap(pending, (messages) =>
    Effect.logWarning(
      `A tracked run was interrupted while it waited for ${recorder.running} command(s) or handler(s) ` +
        `and ${messages} outstanding message(s) of this flow:\n${Flow.toTree(recorder.flow)}`
    ))

  const run = <A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<Tracked<A, E>, never, R> =>
    Effect.suspend(() => {
      recorder.begin()
      return Effect.provideService(effect, IsTracked, true).pipe(
        Effect.exit,
        Effect.tap(Effect.onInterrupt(allDone, () => waitingFor)),
        Effect.map((exit) => ({ exit, flow: recorder.flow })),
        Effect.ensuring(Effect.sync(() => recorder.end()))
      )
    })

  return Context.make(
    Tracker,
    Tracker.of({
      run: (effect) =>
        Effect.flatMap(IsTracked, (isTracked) =>
          isTracked
            ? Effect.die(new Error("Tracker.run was called inside of another Tracker.run: it would wait for itself"))
            : oneAtATime.withPermits(1)(run(effect))),
      soFar: Effect.sync(() => recorder.flow)
    })
  ).pipe((context) => addObserver(context, recorder))
}
