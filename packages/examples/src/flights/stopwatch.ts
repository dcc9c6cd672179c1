/**
 * Says what the time of a run goes to.
 *
 * A process does one thing at a time, so one part of it runs at a time. What begins says so, and the time up to then belongs
 * to the part before. The part of Event Flow goes from a send to its response, and from a delivery to its outcome, without
 * the handlers: the library itself, Effect's run loop where it runs the library, and the observers of this example.
 * It is measured by the clock, so a busy machine makes all parts longer. The parts keep their shares, and the processor's
 * time says how much longer.
 */
import { FlowObserver } from "@event-flow/core"
import { Clock, Context, Effect, Layer } from "effect"

/** `handlers`: of commands and events. `broker`: publishing. `rest`: reading, streams, waiting, what else there is. */
export const parts = ["eventFlow", "handlers", "broker", "decoding", "rest"] as const
export type Part = (typeof parts)[number]

/** In nanoseconds. */
export interface Times {
  /** What each part has taken so far. */
  readonly parts: Readonly<Record<Part, number>>
  /** The processor's time for all of them, those of the engine's other threads included (garbage collection, compiling). */
  readonly processor: number
}

export class Stopwatch extends Context.Service<Stopwatch, {
  /** From now on the time belongs to this part. */
  readonly begin: (part: Part) => void
  /** A send, which belongs to Event Flow but for its handlers. */
  readonly sending: <A, E, R>(send: Effect.Effect<A, E, R>) => Effect.Effect<A, E, R>
  readonly times: Effect.Effect<Times>
}>()("examples/flights/Stopwatch") {
  /** Watches the flows and consumers that are built on top of it. */
  static readonly layer = Layer.unwrap(Effect.gen(function*() {
    const clock = yield* Clock.Clock
    const times: Record<Part, number> = { eventFlow: 0, handlers: 0, broker: 0, decoding: 0, rest: 0 }
    const processorBefore = process.cpuUsage()
    let running: Part = "rest"
    let since = clock.currentTimeNanosUnsafe()

    const begin = (part: Part): void => {
      const now = clock.currentTimeNanosUnsafe()
      times[running] += Number(now - since)
      running = part
      since = now
    }

    const stopwatch = Stopwatch.of({
      begin,
      sending: (send) =>
        Effect.suspend(() => {
          begin("eventFlow")
          return Effect.onExit(send, () => Effect.sync(() => begin("rest")))
        }),
      times: Effect.sync(() => {
        begin(running)
        const { system, user } = process.cpuUsage(processorBefore)
        return { parts: { ...times }, processor: (user + system) * 1000 }
      })
    })
    const observer = FlowObserver.make({
      commandHandling: () => begin("handlers"),
      commandHandled: () => begin("eventFlow"),
      handlerStarted: () => begin("handlers"),
      handlerEnded: () => begin("eventFlow"),
      published: () => begin("broker"),
      publishEnded: () => begin("eventFlow"),
      deliveryStarted: () => begin("eventFlow"),
      deliveryEnded: () => begin("rest")
    })
    return Layer.merge(Layer.succeed(Stopwatch)(stopwatch), FlowObserver.layer(observer))
  }))
}
