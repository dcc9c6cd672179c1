/**
 * The layer of a flow: joins the implementations of its commands with a
 * processor of its own.
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Command from "../../Command.ts"
import type * as EventHandler from "../../EventHandler.ts"
import { DuplicateDefinition, EventMap } from "../../EventMap.ts"
import { EventProcessor } from "../../EventProcessor.ts"
import { type Definition as CommandDefinition, definitionOfClass } from "../definition/commandClass.ts"
import { sameTag } from "../definition/eventTags.ts"
import { list } from "../definition/implementation.ts"
import { isDomainClass, isNotificationClass } from "../definition/kinds.ts"
import { claim } from "../definition/program.ts"
import { Dispatcher } from "./dispatcher.ts"
import type { HandlerTable } from "./handlerTable.ts"
import type { Route } from "./route.ts"
import { makeWatchCommand } from "./watchCommand.ts"
import { tables } from "./ways.ts"

/** What a flow definition says, erased. */
export interface Definition {
  readonly flowName: string
  readonly commands: ReadonlyArray<Command.AnyClass>
  readonly handlers: ReadonlyArray<EventHandler.Any>
  /** Under which a context holds the running flow. */
  readonly key: Context.Key<never, Running>
}

/** A running flow. */
export interface Running {
  readonly dispatcher: Dispatcher
  readonly processor: EventProcessor["Service"]
  readonly table: HandlerTable | undefined
  /** Those of its own commands. */
  readonly routes: ReadonlyArray<Route>
}

export const keyOf = (name: string): Context.Key<never, Running> =>
  Context.Service<never, Running>(`@event-flow/core/EventFlow/${name}`)

/** Takes note of what the flow lists. */
export const listed = ({ commands, handlers }: Pick<Definition, "commands" | "handlers">): void => {
  for (const command of commands) list(definitionOfClass(command))
  for (const handler of handlers) list(handler)
}

const isDomainHandler = (handler: EventHandler.Any): boolean => handler.on.some(isDomainClass)

/** Whether anything that runs in the flow emits a notification event. */
export const publishes = ({ commands, handlers }: Definition): boolean =>
  [...commands, ...handlers.filter(isDomainHandler)].some(({ emits }) => emits.some(isNotificationClass))

/** See `EventFlow.layerNoDeps`. */
export const make = (definition: Definition, drainTimeout: number) =>
  Layer.effectContext(
    Effect.gen(function*() {
      yield* claims(definition)
      const processor = yield* EventProcessor
      const map = yield* EventMap
      // The type of the layer requires all that is looked up in it
      const context = yield* Effect.context<never>()
      const routes = new Map<string, Route>()
      const dispatcher = new Dispatcher({
        name: definition.flowName,
        routes,
        processor,
        watcher: yield* makeWatchCommand
      })
      const own: Array<Route> = []
      let provided = Context.make(definition.key, { dispatcher, processor, table: tables.get(map), routes: own })
      for (const command of definition.commands) {
        const route = yield* makeRoute(definitionOfClass(command), context, dispatcher)
        own.push(route)
        routes.set(command.tag, route)
        provided = Context.add(provided, route.definition.routeKey, route)
      }
      for (const { sends } of [...definition.commands, ...definition.handlers.filter(isDomainHandler)]) {
        addForeignRoutes(routes, sends, context)
      }
      yield* Effect.addFinalizer(() => dispatcher.drain(drainTimeout))
      return provided
    })
  )

const makeRoute = (
  definition: CommandDefinition,
  context: Context.Context<never>,
  dispatcher: Dispatcher
): Effect.Effect<Route, DuplicateDefinition> => {
  const bound = Context.getUnsafe(context, definition.implementationKey)
  if (bound.definition !== definition) {
    return Effect.fail(
      new DuplicateDefinition({
        kind: "command",
        definition: definition.tag,
        first: `${describeCommand(definition)} of flow "${dispatcher.name}"`,
        second: `${describeCommand(bound.definition)} whose implementation is provided`
      })
    )
  }
  return Effect.succeed({
    definition,
    bound,
    dispatcher,
    counts: { started: 0, succeeded: 0, failed: 0, interrupted: 0 }
  })
}

const describeCommand = ({ payload }: Command.AnyClass): string =>
  `the one with payload {${Object.keys(payload).join(", ")}}`

/** The routes of commands that are sent here and listed by other flows. */
export const addForeignRoutes = (
  routes: Map<string, object>,
  targets: ReadonlyArray<Command.Target>,
  context: Context.Context<never>
): void => {
  for (const target of targets) {
    const tag = typeof target === "string" ? target : target.tag
    if (routes.has(tag)) continue
    routes.set(tag, Context.getUnsafe(context, Context.Service<never, Route>(`@event-flow/core/Command/${tag}`)))
  }
}

const claims = (flow: Definition) =>
  Effect.gen(function*() {
    const of = `of flow "${flow.flowName}"`
    const duplicate = sameTag(flow.commands, flow.handlers)
    if (duplicate !== undefined) return yield* Effect.fail(duplicate)
    const names = [...flow.commands.map(({ tag }) => tag), ...flow.handlers.map(({ name }) => name)]
    const description = `the one of ${names.map((name) => `"${name}"`).join(", ")}`
    yield* claim("flow", flow.flowName, { flow: flow.key, definition: flow.key, description })
    for (const command of flow.commands) {
      const definition = definitionOfClass(command)
      const description = `${describeCommand(command)} ${of}`
      yield* claim("command", command.tag, { flow: flow.key, definition, description })
    }
    for (const handler of flow.handlers) {
      const on = handler.on.map(({ tag }) => `"${tag}"`).join(", ")
      yield* claim("handler", handler.name, {
        flow: flow.key,
        definition: handler,
        description: `the one on ${on} ${of}`
      })
    }
  }).pipe(Effect.mapError((duplicate) => new DuplicateDefinition(duplicate)))

/** See `EventFlow.counts`. */
export const counts = ({ key }: Definition) =>
  Effect.map(key, ({ routes, table }) => {
    const events = Array.from(table?.entries ?? [])
    return {
      commands: Object.fromEntries(routes.map(({ counts, definition }) => [definition.tag, { ...counts }])),
      events: Object.fromEntries(events.map(({ counts, event }) => [event.tag, { ...counts }])),
      handlers: Object.fromEntries(
        events.flatMap(({ handlers }) => handlers).map(({ counts, definition }) => [definition.name, { ...counts }])
      )
    }
  })
