/** Runs the handlers of batches (`EventHandler.batch`). */
import * as Arr from "effect/Array"
import * as Effect from "effect/Effect"
import { EventHandlerError } from "../../EventFlowError.ts"
import type { RunBatch } from "../definition/handlerDefinition.ts"
import { Flow, type Routes } from "../dispatch/flow.ts"
import type { CountedHandler, HandlerTable } from "../dispatch/handlerTable.ts"
import type { BatchWork } from "./batchWork.ts"

interface BatchHandler extends CountedHandler {
  readonly runAll: RunBatch
}

export const runBatchHandlers = (table: HandlerTable, routes: Routes) => {
  const handlers = new Set(Array.from(table.entries, (entry) => entry.handlers).flat().filter(isBatchHandler))
  return (works: ReadonlyArray<BatchWork>): Effect.Effect<void, EventHandlerError> =>
    Effect.forEach(handlers, (handler) => {
      const own = works.filter(({ event }) => table.find(event)?.handlers.includes(handler))
      return Arr.isReadonlyArrayNonEmpty(own) ? run(handler, own, routes) : Effect.void
    }, { discard: true })
}

const isBatchHandler = (handler: CountedHandler): handler is BatchHandler => handler.runAll !== undefined

const run = (
  handler: BatchHandler,
  works: Arr.NonEmptyReadonlyArray<BatchWork>,
  routes: Routes
): Effect.Effect<void, EventHandlerError> =>
  Effect.withFiber((fiber) => {
    const { counts, definition: { name }, runAll, services } = handler
    const caller = fiber.context
    // A flow of its own: no message alone is where it comes from
    const flow = Flow.startedIn(caller, undefined, routes, undefined)
    counts.started += works.length
    const runs = works.map(({ event, watching }) => {
      const started = {}
      watching?.observer?.handlerStarted(started, name, event)
      return started
    })
    fiber.setContext(flow.handlerContext(services))
    return Effect.onExitPrimitive(
      Effect.mapError(
        Effect.suspend(() => runAll(Arr.map(works, ({ event }) => event))),
        (cause) => new EventHandlerError({ event: works[0].event._tag, handler: name, cause })
      ),
      (exit) => {
        fiber.setContext(caller)
        flow.release()
        if (exit._tag === "Failure") counts.failed += works.length
        works.forEach(({ watching }, i) => watching?.observer?.handlerEnded(runs[i]!, exit))
        return undefined
      }
    )
  })
