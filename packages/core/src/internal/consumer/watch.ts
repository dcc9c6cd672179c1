/** What others are told of the deliveries of a consumer: the observer, the metrics and the tracer. */
import type * as Cause from "effect/Cause"
import type * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import type * as Tracer from "effect/Tracer"
import * as Broker from "../../Broker.ts"
import type * as ConsumerPolicy from "../../ConsumerPolicy.ts"
import type * as FlowObserver from "../../FlowObserver.ts"
import type * as Message from "../../Message.ts"
import type * as NotificationEvent from "../../NotificationEvent.ts"
import type { Delivery } from "../../Subscriber.ts"
import * as Telemetry from "../../Telemetry.ts"
import { readableAttribute } from "../describe.ts"
import { Observers, type Watching } from "../dispatch/observers.ts"
import { publishObserved } from "../dispatch/publish.ts"
import * as Record from "../telemetry/record.ts"
import { hasTracer } from "../telemetry/span.ts"
import * as Traceparent from "../telemetry/traceparent.ts"
import type { BatchWork } from "./batchWork.ts"

type Works = ReadonlyArray<BatchWork>

/** Why a message was not handled, as far as that is known. */
export interface Why {
  readonly cause: Cause.Cause<unknown>
  readonly decision?: ConsumerPolicy.Decision | undefined
  /** Where the message went, or was to go. */
  readonly topic?: string | undefined
  /** When a postponed message is delivered again, in milliseconds since 1970. */
  readonly due?: number | undefined
}

/** A delivery in the hands of a worker, alone or in a batch. */
interface Taken {
  readonly delivery: Delivery
  /** That of the delivery, in binary mode. */
  readonly message: Message.Message
  readonly attempts: number
  readonly why: Why | undefined
  /** Who watches it, once the observers were asked. */
  readonly watching: Watching | undefined
}

/** A delivery that a worker handles alone. */
export interface Work extends Taken {
  /** Undefined: it is not settled. */
  readonly outcome: FlowObserver.DeliveryOutcome | undefined
  watching: Watching | undefined
  /** Makes the first attempt, and settles the delivery when that succeeds. */
  readonly start: () => Effect.Effect<void, unknown>
  /** Takes the failure of the first attempt. */
  readonly recover: (delivery: Delivery, cause: Cause.Cause<unknown>) => Effect.Effect<void, unknown>
}

export interface Watch {
  /** Handles a delivery to its end. Where nobody watches, its failure is left to the caller. */
  readonly around: (work: Work) => Effect.Effect<void, unknown>
  /** Handles a batch: all of it, or it fails and comes again. */
  readonly aroundAll: <E>(works: Works, handling: Effect.Effect<void, E>) => Effect.Effect<void, E>
  /** Says what became of the deliveries of a batch, and acknowledges them. */
  readonly settleAll: (works: ReadonlyArray<BatchWork>) => Effect.Effect<void>
  /** An attempt begins to handle this event. */
  readonly decoded: (work: Taken, event: NotificationEvent.Any) => void
  /** Says what became of a delivery, and acknowledges it. */
  readonly settle: (work: Work, outcome: FlowObserver.DeliveryOutcome) => Effect.Effect<void>
  /** Says that the consumer keeps a delivery for later. */
  readonly held: (work: Work) => void
  /** Publishes a message that is put aside. */
  readonly publish: (
    work: Work,
    message: Message.Message
  ) => Effect.Effect<void, Broker.BrokerNotFound | Broker.PublishError>
}

/** The watch of a consumer whose workers run in the context of the running fiber. */
export const makeWatch = Effect.fnUntraced(function*(options: { readonly group: string; readonly system: string }) {
  const broker = yield* Broker.Broker
  const observers = Observers.in(yield* Effect.context<never>())
  const { metrics } = yield* Telemetry.Settings
  const tracing = yield* Effect.withFiber((fiber) => Effect.succeed(hasTracer(fiber)))
  return observers.isEmpty && !metrics && !tracing
    ? new Unwatched(broker)
    : new Watched({ ...options, broker, metrics, observers, tracing })
})

// --- internal ---

class Unwatched implements Watch {
  readonly #broker: Broker.Broker["Service"]

  constructor(broker: Broker.Broker["Service"]) {
    this.#broker = broker
  }

  around(work: Work): Effect.Effect<void, unknown> {
    return work.start()
  }

  aroundAll<E>(_: Works, handling: Effect.Effect<void, E>): Effect.Effect<void, E> {
    return handling
  }

  settleAll(works: ReadonlyArray<BatchWork>): Effect.Effect<void> {
    return Effect.forEach(works, ({ delivery }) => delivery.ack, { discard: true })
  }

  decoded(): void {}

  settle(work: Work): Effect.Effect<void> {
    return work.delivery.ack
  }

  held(): void {}

  publish(_: Work, message: Message.Message): ReturnType<Watch["publish"]> {
    return this.#broker.publish([message])
  }
}

interface Options {
  readonly group: string
  readonly system: string
  readonly broker: Broker.Broker["Service"]
  readonly observers: Observers
  readonly metrics: boolean
  readonly tracing: boolean
}

class Watched implements Watch {
  readonly #options: Options

  constructor(options: Options) {
    this.#options = options
  }

  around(work: Work): Effect.Effect<void, unknown> {
    const { group, metrics, observers, system, tracing } = this.#options
    const { message } = work
    work.watching = observers.watching(undefined, () => ({ _tag: "Delivery", message, group }))
    if (!metrics && !tracing && work.watching?.observer === undefined) return work.start()
    const { topic } = message
    const handling = Effect.catchCause(
      Effect.suspend(() => work.start()),
      (cause) => work.recover(work.delivery, cause)
    )
    return Record.process(this.#observed(work, handling), {
      system,
      topic,
      group,
      messageId: readableAttribute(message, "id"),
      parent: tracing ? spanOf(message) : undefined,
      tracing,
      metrics,
      failureOf: () => isPutAside(work.outcome) ? work.why?.cause : undefined
    })
  }

  #observed<A, E>(work: Work, handling: Effect.Effect<A, E>): Effect.Effect<A, E> {
    const observer = work.watching?.observer
    return observer === undefined ? handling : Effect.suspend(() => {
      observer.deliveryStarted(work.delivery, work.message, this.#options.group)
      return Effect.onExit(handling, (exit) =>
        Effect.sync(() => {
          if (work.outcome === undefined) {
            observer.deliveryEnded(work.delivery, "returned", infoOf(work, Exit.getCause(exit)))
          }
        }))
    })
  }

  aroundAll<E>(works: Works, handling: Effect.Effect<void, E>): Effect.Effect<void, E> {
    const { group, metrics, observers, system, tracing } = this.#options
    for (const work of works) {
      const { message } = work
      work.watching = observers.watching(undefined, () => ({ _tag: "Delivery", message, group }))
      work.watching?.observer?.deliveryStarted(work.delivery, message, group)
    }
    const observed = Effect.onExit(handling, (exit) =>
      Effect.sync(() => {
        if (Exit.isSuccess(exit)) return
        for (const work of works) {
          // They are handled again, in smaller batches
          work.watching?.observer?.deliveryEnded(work.delivery, "held", infoOf(work, Exit.getCause(exit)))
        }
      }))
    return Record.processBatch(observed, {
      system,
      topic: Array.from(new Set(works.map(({ message }) => message.topic))).join(","),
      group,
      count: works.length,
      links: tracing ? works.flatMap(({ message }) => spanOf(message) ?? []) : [],
      tracing,
      metrics
    })
  }

  settleAll(works: ReadonlyArray<BatchWork>): Effect.Effect<void> {
    return Effect.withFiber((fiber) => {
      for (const work of works) this.#tell(work, work.outcome, fiber.context)
      return Effect.forEach(works, ({ delivery }) => delivery.ack, { discard: true })
    })
  }

  decoded(work: Taken, event: NotificationEvent.Any): void {
    work.watching?.observer?.deliveryDecoded(work.delivery, event)
  }

  settle(work: Work, outcome: FlowObserver.DeliveryOutcome): Effect.Effect<void> {
    return Effect.withFiber((fiber) => {
      this.#tell(work, outcome, fiber.context)
      return work.delivery.ack
    })
  }

  /** Before the acknowledgement, after which the broker may be found idle. */
  #tell(work: Taken, outcome: FlowObserver.DeliveryOutcome, context: Context.Context<never>): void {
    const { group, metrics, system } = this.#options
    work.watching?.observer?.deliveryEnded(work.delivery, outcome, infoOf(work))
    if (metrics) Record.consumed({ system, topic: work.message.topic, group, outcome }, context)
  }

  held(work: Work): void {
    work.watching?.observer?.deliveryEnded(work.delivery, "held", infoOf(work))
  }

  publish(work: Work, message: Message.Message): ReturnType<Watch["publish"]> {
    const { broker, metrics, tracing } = this.#options
    const { delivery, watching } = work
    return Record.publish(
      Effect.suspend(() => publishObserved(broker, watching?.observer, { delivery, events: [], messages: [message] })),
      { system: broker.name, topic: message.topic, count: 1, tracing, metrics }
    )
  }
}

/** The span of whoever published a message. */
const spanOf = (message: Message.Message): Tracer.AnySpan | undefined => {
  const traceparent = readableAttribute(message, "traceparent")
  return traceparent === undefined ? undefined : Traceparent.toSpan(traceparent)
}

const infoOf = (
  { attempts, why }: Taken,
  cause: Option.Option<Cause.Cause<unknown>> = Option.none()
): FlowObserver.DeliveryInfo => ({
  attempts,
  cause: why?.cause ?? Option.getOrUndefined(cause),
  decision: why?.decision?._tag,
  topic: why?.topic,
  due: why?.due
})

const isPutAside = (outcome: FlowObserver.DeliveryOutcome | undefined): boolean =>
  outcome === "dead_lettered" || outcome === "postponed" || outcome === "held"
