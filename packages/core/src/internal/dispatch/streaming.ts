/**
 * Dispatches streaming commands: the events of each element are processed
 * before it is handed on.
 */
import * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Latch from "effect/Latch"
import * as Queue from "effect/Queue"
import * as Scope from "effect/Scope"
import * as Semaphore from "effect/Semaphore"
import * as Stream from "effect/Stream"
import type { AnyCommand } from "../definition/models.ts"
import { Collector } from "./collector.ts"
import type { AnyEffect, AnyFiber } from "./dispatch.ts"
import { count, type Dispatcher, type OwnMediator } from "./dispatcher.ts"
import { CurrentFlow, Flow } from "./flow.ts"
import type { Watching } from "./observers.ts"
import type { Route } from "./route.ts"
import type { Watch } from "./watchCommand.ts"

type AnyStream = Stream.Stream<unknown, unknown>

/**
 * The stream of a command. It runs in a fiber of its own, whoever asks for its
 * elements: middleware wraps effects, and closing the flow ends the stream.
 */
export const streamOf = (
  dispatcher: Dispatcher,
  route: Route,
  command: AnyCommand,
  own: OwnMediator | undefined
): AnyStream =>
  handOver((handOverTo) =>
    Effect.withFiber((fiber) => {
      const watching = dispatcher.watcher.watching(Context.get(fiber.context, CurrentFlow), command)
      const watch = dispatcher.watcher.watch(fiber, command, watching)
      return dispatcher.wrap(
        fiber,
        route,
        command,
        own,
        watch,
        watching,
        (fiber) => handOverTo((offer, enough) => run(dispatcher, fiber, route, command, watch, watching, offer, enough))
      )
    })
  )

type Offer = (element: unknown) => Effect.Effect<void>

/** Whether the consumer of a stream has taken what it wants. */
interface Enough {
  readonly isReached: boolean
}

const run = (
  dispatcher: Dispatcher,
  fiber: AnyFiber,
  route: Route,
  command: AnyCommand,
  watch: Watch | undefined,
  watching: Watching | undefined,
  offer: Offer,
  enough: Enough
): AnyEffect =>
  Effect.suspend(() => {
    const { bound, counts } = route
    counts.started++
    const flow = Flow.startedIn(
      fiber.context,
      Context.get(fiber.context, CurrentFlow),
      dispatcher.routes,
      watching
    )
    const collector = new Collector()
    const processCollected = Effect.suspend(() => {
      const events = collector.take()
      if (events === undefined) return Effect.void
      watch?.collected(events)
      return dispatcher.processAll(events)
    })
    // A definition that streams has a handler that gives a Stream
    const handler = Stream.suspend(() => {
      watch?.handlerStarted()
      return bound.run(command, collector) as AnyStream
    })
    const handled = watch === undefined ?
      handler :
      Stream.onExit(handler, (exit) => Effect.sync(() => watch.handlerEnded(enough.isReached ? Exit.void : exit)))
    const inHandler = Stream.updateContext<unknown, unknown, never, never>(
      handled,
      () => flow.handlerContext(bound.services)
    )
    return Stream.runForEach(
      Stream.rechunk(inHandler, 1),
      (element) => Effect.andThen(processCollected, offer(element))
    ).pipe(
      Effect.andThen(processCollected),
      Effect.updateContext<never, never>(() => flow.context),
      Effect.onExit((exit) =>
        Effect.sync(() => {
          collector.close()
          flow.release()
          count(counts, enough.isReached ? Exit.void : exit)
        })
      )
    )
  })

/**
 * A stream of what an effect offers: the effect goes on when the next element
 * is asked for, and ends well when the consumer has had enough.
 */
const handOver = (
  produce: (handOverTo: (run: (offer: Offer, enough: Enough) => AnyEffect) => AnyEffect) => AnyEffect
): AnyStream =>
  Stream.unwrap(Effect.gen(function*() {
    const scope = yield* Effect.scope
    const demand = Semaphore.makeUnsafe(0)
    const asked = demand.take(1)
    // The error of its end and those of the command are told apart by `Pull`
    const queue = yield* Queue.bounded<unknown, unknown>(1)
    const enough = { isReached: false }
    const reached = Latch.makeUnsafe()

    let hasStarted = false
    const handOverTo = (run: (offer: Offer, enough: Enough) => AnyEffect): AnyEffect =>
      Effect.raceFirst(
        run((element) => Effect.andThen(Queue.offer(queue, element), asked), enough),
        reached.await
      )

    const fiber = yield* Effect.forkIn(
      Effect.onExit(
        Effect.andThen(
          asked,
          Effect.suspend(() => {
            hasStarted = true
            return produce(handOverTo)
          })
        ),
        (exit) => Queue.failCause(queue, Exit.isSuccess(exit) ? Cause.fail(Cause.Done()) : exit.cause)
      ),
      scope
    )
    // Closed before the fiber, which the scope would interrupt
    yield* Scope.addFinalizerExit(scope, (exit) =>
      Effect.suspend(() => {
        if (Exit.isFailure(exit)) return Effect.void
        enough.isReached = true
        reached.openUnsafe()
        return hasStarted ? Fiber.await(fiber) : Effect.void
      }))
    return Stream.fromPull(Effect.succeed(Effect.andThen(demand.release(1), Queue.takeAll(queue))))
  }))
