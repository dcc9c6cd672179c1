/**
 * The same handlers, spans, metrics and middleware written by hand on Effect, as well as it can be done: the handles of
 * metrics are made once, and no span is made in a trace that is not recorded.
 */
import * as Telemetry from "@event-flow/core/Telemetry"
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as ManagedRuntime from "effect/ManagedRuntime"
import * as Metric from "effect/Metric"
import * as Schema from "effect/Schema"
import * as Tracer from "effect/Tracer"
import { collector } from "../collector.ts"
import * as flow from "../flow.ts"
import { first, second, third } from "../flow.ts"
import { Measured } from "../memorySource.ts"
import { countHandler, countMessage, encode, meetingId, tally, userId } from "../workload.ts"
import { concurrentSends, type Configuration, nestedSends, type Workload } from "./configurations.ts"
import { signedIn } from "./guarded.ts"
import { measuredMessage } from "./messages.ts"
import { CurrentUser, performing, type Run, Sessions, Surroundings } from "./surroundings.ts"

type Sent = Effect.Effect<number, never, Sessions>

const none = collector<never>()

const logged = <A, E, R>(effect: Effect.Effect<A, E, R>, command: string): Effect.Effect<A, E, R> =>
  Effect.flatMap(
    Clock.currentTimeMillis,
    (start) =>
      Effect.onExit(effect, (exit) =>
        Effect.flatMap(Clock.currentTimeMillis, (end) =>
          Effect.annotateLogs(
            Exit.isSuccess(exit)
              ? Effect.logDebug(`Command ${command} succeeded`)
              : Effect.logWarning(`Command ${command} failed`, exit.cause),
            { command, millis: end - start }
          )))
  )

const authenticated = <A, E, R>(
  effect: Effect.Effect<A, E, R | CurrentUser>
): Effect.Effect<A, E, Exclude<R, CurrentUser> | Sessions> =>
  Effect.flatMap(
    Sessions,
    ({ user }) => Effect.flatMap(user, (current) => Effect.provideService(effect, CurrentUser, current))
  )

const timed = <A, E, R>(effect: Effect.Effect<A, E, R>, handle: Metric.Histogram<number>): Effect.Effect<A, E, R> =>
  Effect.flatMap(
    Clock.currentTimeNanos,
    (start) =>
      Effect.onExit(
        effect,
        () => Effect.flatMap(Clock.currentTimeNanos, (end) => Metric.update(handle, Number(end - start) / 1e9))
      )
  )

/** A span, unless the trace is not recorded. */
const traced = <A, E, R>(
  effect: Effect.Effect<A, E, R>,
  name: string,
  options: Tracer.SpanOptions & { readonly captureStackTrace: false }
): Effect.Effect<A, E, R> => {
  const spanned = Effect.withSpan(effect, name, options) as Effect.Effect<A, E, R>
  return Effect.withFiber((fiber) => {
    const parent = options.parent ??
      Context.getOrUndefined(fiber.context as Context.Context<Tracer.ParentSpan>, Tracer.ParentSpan)
    return parent?.sampled === false ? effect : spanned
  })
}

const histogram = (metric: { readonly id: string }, attributes: Readonly<Record<string, string>>) =>
  Metric.histogram(metric.id, { boundaries: [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10], attributes })

const counter = (metric: { readonly id: string }, attributes: Readonly<Record<string, string>>) =>
  Metric.counter(metric.id, { incremental: true, attributes })

const publishing = {
  "messaging.system": "nothing",
  "messaging.destination.name": "meetings",
  "messaging.operation.name": "publish",
  "messaging.operation.type": "send"
}

const command = (seat: number) => new flow.Join({ meetingId, userId, seat })

/** The command, its handler, and what happens to the events. */
const bodyOf = (workload: Workload, { metrics, middleware, tracing }: Configuration) => {
  const guard = middleware ? signedIn : <A>(handle: A): A => handle
  const join = guard(flow.join)
  const joinOne = guard(flow.joinOne)
  const joinMany = guard(flow.joinMany)
  const joinStep = guard(flow.joinStep)
  const joinNotify = guard(flow.joinNotify)
  const sent = counter(Telemetry.sentMessages, publishing)
  const operations = histogram(Telemetry.operationDuration, publishing)
  const publish = (event: flow.SeatTaken): Effect.Effect<void> => {
    let effect: Effect.Effect<void> = Effect.sync(() => countMessage(encode(event)))
    if (workload === "W6-read") {
      effect = Effect.withFiber((fiber) => {
        const { span } = fiber.cache
        // As a broker's record has them
        const attributes = {
          specversion: "1.0",
          id: crypto.randomUUID(),
          type: "SeatTaken.v1",
          source: "/event-flow",
          time: new Date().toISOString(),
          datacontenttype: "application/json",
          traceparent: span && `00-${span.traceId}-${span.spanId}-${span.sampled ? "01" : "00"}`
        }
        if (attributes.id !== undefined) countMessage(encode(event))
        return Effect.void
      })
    }
    if (metrics) effect = Effect.andThen(Metric.update(sent, 1), timed(effect, operations))
    return tracing === undefined ? effect : traced(effect, "publish meetings", {
      captureStackTrace: false,
      kind: "producer",
      attributes: { ...publishing, "messaging.batch.message_count": 1 }
    })
  }
  const bodies = {
    W1: (seat: number) => join(command(seat)),
    W2: Effect.fnUntraced(function*(seat: number) {
      const collected = collector<flow.UserJoined>()
      const answer = yield* joinOne(command(seat), collected)
      for (const event of collected.events) yield* first.handle(event, none)
      return answer
    }),
    W3: Effect.fnUntraced(function*(seat: number) {
      const collected = collector<flow.UserJoined>()
      const answer = yield* joinMany(command(seat), collected)
      for (const event of collected.events) {
        yield* first.handle(event, none)
        yield* second.handle(event, none)
        yield* third.handle(event, none)
      }
      return answer
    }),
    W5: Effect.fnUntraced(function*(seat: number) {
      const collected = collector<flow.StepTaken>()
      const answer = yield* joinStep(command(seat), collected)
      // The array grows while it is walked: follow-ups come after what is already waiting
      for (const event of collected.events) yield* flow.onStep(event, collected)
      return answer
    }),
    W6: Effect.fnUntraced(function*(seat: number) {
      const collected = collector<flow.SeatTaken>()
      const answer = yield* joinNotify(command(seat), collected)
      for (const event of collected.events) yield* publish(event)
      return answer
    })
  }
  return workload === "W2" || workload === "W3" || workload === "W5" || workload === "W6"
    ? bodies[workload]
    : workload === "W6-read"
    ? bodies.W6
    : bodies.W1
}

/** What the configuration puts around each command. */
const sending = (
  name: string,
  { metrics, middleware, tracing }: Configuration,
  body: (seat: number) => Effect.Effect<number, never, CurrentUser | Sessions>
) => {
  const attributes = { "event_flow.command": name }
  const durations = histogram(Telemetry.commandDuration, attributes)
  const options = { captureStackTrace: false, kind: "internal", attributes } as const
  return (seat: number): Sent => {
    // Without middleware no handler looks at the current user
    let effect = body(seat) as Sent
    if (middleware) effect = logged(authenticated(effect), name)
    if (metrics) effect = timed(effect, durations)
    return tracing === undefined ? effect : traced(effect, `Command/${name}`, options)
  }
}

export const setup = (workload: Workload, configuration: Configuration): Run => {
  const runtime = ManagedRuntime.make(Surroundings(configuration))
  if (workload === "consume") {
    const handle = consuming(configuration)
    let next = 0
    const run = Effect.fnUntraced(function*(units: number) {
      for (let i = 0; i < units; i++) yield* handle(next++)
    })
    return (units) => runtime.runPromise(run(units))
  }
  const send = sending(workload, configuration, bodyOf(workload, configuration))
  let unit = send
  if (workload === "nested") {
    unit = sending(
      "JoinAll",
      configuration,
      Effect.fnUntraced(function*(seat) {
        tally.commands += 1
        for (let i = 0; i < nestedSends; i++) tally.nested += yield* send(seat)
        return seat
      })
    )
  }
  if (workload === "concurrent") {
    const hundred = Array.from({ length: concurrentSends }, (_, i) => i)
    unit = (seat) =>
      Effect.as(
        Effect.forEach(hundred, () => Effect.map(send(seat), (answer) => void (tally.nested += answer)), {
          concurrency: "unbounded",
          discard: true
        }),
        seat
      )
  }
  const perform = performing(configuration, unit)
  return (units) => runtime.runPromise(perform(units))
}

const decode = Schema.decodeUnknownSync(Schema.Struct(Measured.fields))
const decoder = new TextDecoder("utf-8", { fatal: true })

const processing = {
  "messaging.system": "bench",
  "messaging.destination.name": "measured",
  "messaging.consumer.group.name": "bench",
  "messaging.operation.name": "process",
  "messaging.operation.type": "process"
}

/** One message after another in one fiber: no lanes, no bound, no acknowledgement. */
const consuming = (configuration: Configuration): (i: number) => Effect.Effect<void> => {
  const { metrics, tracing } = configuration
  const consumed = counter(Telemetry.consumedMessages, { ...processing, "event_flow.outcome": "handled" })
  const duration = histogram(Telemetry.processDuration, processing)
  const seen = new Set<string>()
  return (i) => {
    const message = measuredMessage(i, configuration)
    let effect: Effect.Effect<void> = Effect.suspend(() => {
      const event = decode({ _tag: "Measured", ...JSON.parse(decoder.decode(message.body!)) })
      return Effect.sync(() => countHandler({ meetingId, userId, seat: event.i }))
    })
    if (metrics && tracing !== undefined) {
      const id = message.attributes["id"]!
      const inner = effect
      effect = Effect.suspend(() =>
        seen.has(id) ? Effect.void : Effect.tap(inner, () =>
          Effect.sync(() => {
            seen.add(id)
            if (seen.size > 100_000) seen.clear()
          }))
      )
    }
    if (metrics) effect = Effect.andThen(timed(effect, duration), Metric.update(consumed, 1))
    if (tracing === undefined) return effect
    const [, traceId, spanId, flags] = message.attributes["traceparent"]!.split("-")
    return traced(effect, "process measured", {
      captureStackTrace: false,
      kind: "consumer",
      attributes: { ...processing, "messaging.message.id": message.attributes["id"] },
      parent: Tracer.externalSpan({ traceId: traceId!, spanId: spanId!, sampled: flags === "01" })
    })
  }
}
