/** Where the handlers of a consumer come from, and who processes their follow-ups: a flow, or a list of handlers. */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Event from "../../Event.ts"
import * as EventEmitter from "../../EventEmitter.ts"
import type * as EventFlow from "../../EventFlow.ts"
import type { EventFlowError } from "../../EventFlowError.ts"
import type * as EventHandler from "../../EventHandler.ts"
import * as EventMap from "../../EventMap.ts"
import { EventProcessor, layer as processorLayer } from "../../EventProcessor.ts"
import type * as NotificationEvent from "../../NotificationEvent.ts"
import { isNotificationClass } from "../definition/kinds.ts"
import type { Dispatch } from "../dispatch/dispatch.ts"
import type { Routes } from "../dispatch/flow.ts"
import { addForeignRoutes, keyOf } from "../dispatch/flowLayer.ts"
import { HandlerRuns } from "../dispatch/handlerRuns.ts"
import { type HandlerTable, makeTable } from "../dispatch/handlerTable.ts"
import { makeRunHandler } from "../dispatch/watchHandler.ts"
import { type HandlesFollowUps, type Memory, type ProcessorWay, processorWays } from "../dispatch/ways.ts"
import { runBatchHandlers } from "./batchHandlers.ts"
import type { BatchWork } from "./batchWork.ts"

export type Source = EventFlow.Any | ReadonlyArray<EventHandler.Any>

/** Handles consumed events. */
export interface Consuming {
  /** The events that are consumed, by tag. */
  readonly known: ReadonlyMap<string, NotificationEvent.AnyClass>
  /** The commands that handlers may send. */
  readonly routes: Routes
  /** Handles one event after the other in a dispatch, with their follow-ups; then comes `next`. */
  readonly handlerIn: HandlerIn
  /** The same without the handlers of batches. */
  readonly batchless: { readonly handles: (event: Event.Any) => boolean; readonly handlerIn: HandlerIn }
  /** Runs the handlers of batches, each with the events that it handles. */
  readonly runBatchHandlers: (works: ReadonlyArray<BatchWork>) => Effect.Effect<void, EventFlowError>
}

type HandlerIn = <A, E>(
  dispatch: Dispatch,
  memory: Memory,
  next: () => Effect.Effect<A, E>
) => { readonly handle: (event: Event.Any) => Effect.Effect<A, E | EventFlowError> }

export const handlersOf = (source: Source): ReadonlyArray<EventHandler.Any> =>
  "handlers" in source ? source.handlers : source

/** The types of a consumer's layer require what is looked up here. */
export const makeConsuming = Effect.fnUntraced(function*(source: Source) {
  const context = yield* Effect.context<never>()
  const handlers = handlersOf(source)
  const tableOf = (handlers: ReadonlyArray<EventHandler.Any>) =>
    Effect.mapError(
      makeTable(handlers, context, isNotificationClass),
      (duplicate) => new EventMap.DuplicateDefinition(duplicate)
    )
  const table = yield* tableOf(handlers)
  const batchless = yield* tableOf(handlers.filter(({ mode }) => mode === "single"))
  const known = new Map<string, NotificationEvent.AnyClass>()
  const names = new Map<string, NotificationEvent.AnyClass>()
  for (const { event } of table.entries) {
    if (!isNotificationClass(event)) continue
    known.set(event.tag, event)
    for (const [kind, definition] of namesOnTheWire(event)) {
      const first = names.get(`${kind} ${definition}`)
      if (first !== undefined && first !== event) {
        return yield* new EventMap.DuplicateDefinition({
          kind,
          definition,
          first: `"${first.tag}"`,
          second: `"${event.tag}"`
        })
      }
      names.set(`${kind} ${definition}`, event)
    }
  }
  const { processor, routes } = yield* "handlers" in source
    ? Effect.succeed(running(source, context))
    : processorOf(source)
  const all = new Map(routes)
  for (const handler of handlers) {
    if (handler.on.some(isNotificationClass) || !("handlers" in source)) {
      addForeignRoutes(all, handler.sends, context)
    }
  }
  const runHandler = yield* makeRunHandler
  return {
    known,
    routes: all,
    handlerIn: handlerIn(processor, table, runHandler),
    batchless: {
      handles: (event) => batchless.find(event) !== undefined,
      handlerIn: handlerIn(processor, batchless, runHandler)
    },
    runBatchHandlers: runBatchHandlers(table, all)
  } satisfies Consuming
})

/** What a message is told by. */
const namesOnTheWire = (
  { route }: NotificationEvent.AnyClass
): ReadonlyArray<readonly ["type" | "tombstone", string]> => [
  ...Array.from({ length: route.version }, (_, i) => ["type", route.type(i + 1)] as const),
  ...(route.tombstone === undefined ? [] : [["tombstone", route.topic] as const])
]

interface Processing {
  readonly processor: EventProcessor["Service"]
  readonly routes: Routes
}

const running = (flow: EventFlow.Any, context: Context.Context<never>): Processing => {
  const { dispatcher, processor } = Context.getUnsafe(context, keyOf(flow.flowName))
  return { processor, routes: dispatcher.routes }
}

/** A processor for the follow-ups of handlers that are in no flow. */
const processorOf = (handlers: ReadonlyArray<EventHandler.Any>) =>
  Effect.map(
    Layer.build(
      processorLayer().pipe(
        Layer.provide(Layer.fresh(EventEmitter.layer)),
        Layer.provide(EventMap.layer(handlers))
      )
    ),
    (built): Processing => ({ processor: Context.get(built, EventProcessor), routes: new Map<string, object>() })
  )

const handlerIn = (
  processor: EventProcessor["Service"],
  table: HandlerTable,
  run: Effect.Success<typeof makeRunHandler>
): Consuming["handlerIn"] => {
  const consume = processorWays.get(processor)?.consume ?? consumeWith(processor)
  return (dispatch, memory, next) => {
    const runs: HandlesFollowUps = (dispatch, report, next) =>
      new HandlerRuns(table, run, dispatch, report, next, memory)
    return consume(dispatch, runs, next)
  }
}

/** The same with a processor that is not ours. */
const consumeWith = (processor: EventProcessor["Service"]): ProcessorWay["consume"] => {
  // Whoever handles deliveries is a mediator for their handlers: `routes` are what they may send
  const process = processor.process as (events: ReadonlyArray<Event.Any>) => Effect.Effect<void, EventFlowError>
  return (dispatch, handlersOf, next) =>
    handlersOf(dispatch, undefined, (followUps) => {
      dispatch.fiber.setContext(dispatch.flow.context)
      return Effect.flatMap(process(followUps), next)
    })
}
