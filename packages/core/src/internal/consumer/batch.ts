/** The way of several deliveries at once: decode them, drop duplicates, handle them, settle them. */
import * as Arr from "effect/Array"
import * as Effect from "effect/Effect"
import type * as Fiber from "effect/Fiber"
import * as DeadLetter from "../../DeadLetter.ts"
import type { EventFlowError } from "../../EventFlowError.ts"
import type * as MessageCodec from "../../MessageCodec.ts"
import type { Delivery } from "../../Subscriber.ts"
import { inDispatch } from "../dispatch/dispatch.ts"
import { Flow } from "../dispatch/flow.ts"
import { BatchWork } from "./batchWork.ts"
import { HandlerMemory } from "./handlerMemory.ts"
import type { Once } from "./once.ts"
import type { Outage } from "./outage.ts"
import type { Consuming } from "./source.ts"
import type { Watch } from "./watch.ts"

/** What is needed to handle a batch. */
export interface Batching {
  readonly group: string
  readonly codec: MessageCodec.MessageCodec
  readonly consuming: Consuming
  /** Undefined: duplicates are handled. */
  readonly once: Once | undefined
  readonly watch: Watch
  /** Undefined: it does not tell outages. */
  readonly outage: Outage | undefined
}

type Works = Arr.NonEmptyReadonlyArray<BatchWork>

/**
 * Handles a batch, all of it or nothing: the inbox remembers all messages in the
 * transaction of their handlers, and they are acknowledged when that has ended.
 */
export const runBatch = (batching: Batching, deliveries: ReadonlyArray<Delivery>): Effect.Effect<void, unknown> => {
  const works: Array<BatchWork> = []
  const revoked: Array<Delivery> = []
  for (const delivery of deliveries) {
    if (delivery.isRevoked()) revoked.push(delivery)
    else works.push(new BatchWork(delivery, batching.group))
  }
  const answered = Effect.forEach(revoked, ({ nack }) => nack, { discard: true })
  return Arr.isReadonlyArrayNonEmpty(works) ? Effect.andThen(answered, handleAll(batching, works)) : answered
}

const handleAll = (batching: Batching, works: Works): Effect.Effect<void, unknown> => {
  const { codec, consuming, group, once, outage, watch } = batching
  // One that came again is handled alone: what it is to run differs
  if (works.some(({ message }) => DeadLetter.handlersToRun(message, group) !== undefined)) {
    return Effect.fail("A message of the batch is for some of its handlers alone")
  }
  const decoded = Effect.forEach(
    works,
    (work) =>
      Effect.map(codec.decode(work.message, consuming.known), (event) => {
        work.event = event
        watch.decoded(work, event)
      }),
    { discard: true }
  )
  const handled = once === undefined
    ? Effect.suspend(() => handleEvents(batching, works))
    : once.all(works.map(({ message }) => message), (isNew) => {
      const firsts = works.filter((work, i) => {
        work.outcome = isNew[i] ? "handled" : "duplicate"
        return isNew[i]
      })
      return handleEvents(batching, firsts)
    })
  const settled = Effect.suspend(() => {
    for (const { event } of outage === undefined || outage.isCalm ? [] : works) outage!.handled(event._tag)
    return watch.settleAll(works)
  })
  return Effect.andThen(
    watch.aroundAll(works, Effect.andThen(decoded, handled)).pipe(
      Effect.tapCause((cause) =>
        Effect.logDebug(`A batch of ${works.length} messages failed: they are handled in smaller batches`, cause)
      )
    ),
    settled
  )
}

const handleEvents = (
  { consuming }: Batching,
  works: ReadonlyArray<BatchWork>
): Effect.Effect<void, EventFlowError> =>
  // The inbox may run it in a fiber of its own
  Effect.withFiber((fiber) =>
    Effect.andThen(
      Effect.forEach(works, (work) => handleOne(fiber, consuming, work), { discard: true }),
      consuming.runBatchHandlers(works)
    )
  )

const handleOne = (
  fiber: Fiber.Fiber<unknown, unknown>,
  { batchless, routes }: Consuming,
  { consumed, event, watching }: BatchWork
): Effect.Effect<void, EventFlowError> => {
  if (!batchless.handles(event)) return Effect.void
  const flow = Flow.consuming(fiber.context, routes, consumed, watching)
  return Effect.onExitPrimitive(
    inDispatch((dispatch) => {
      dispatch.fiber.setContext(flow.context)
      return batchless.handlerIn(dispatch, new HandlerMemory(true, () => undefined), () => Effect.void).handle(event)
    }, flow),
    () => {
      flow.release()
      return undefined
    }
  )
}
