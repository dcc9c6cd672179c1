/**
 * From a command to the dispatcher of the flow that lists it.
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Stream from "effect/Stream"
import type * as Command from "../../Command.ts"
import type { Definition } from "../definition/commandClass.ts"
import { TypeId } from "../definition/commandId.ts"
import type { AnyEffect, OwnMediator } from "./dispatcher.ts"
import { CurrentFlow, type Flow } from "./flow.ts"
import type { Route } from "./route.ts"
import { Settled } from "./settled.ts"
import { streamOf } from "./streaming.ts"

type AnyStream = Stream.Stream<unknown, unknown>

/** A mediator of one's own, whose types say what its middleware does. */
export interface ErasedMediator {
  readonly send: (command: Command.Any) => AnyEffect
  readonly sendSettled: (command: Command.Any) => AnyEffect
  readonly stream: (command: Command.Any) => AnyStream
}

export const mediatorOf = (own: OwnMediator): ErasedMediator => ({
  send: (command) => send(command, own),
  sendSettled: (command) => sendSettled(command, own),
  stream: (command) => stream(command, own)
})

export const send = (command: Command.Any, own: OwnMediator | undefined): AnyEffect =>
  Effect.withFiber((fiber) => {
    const parent = Context.get(fiber.context, CurrentFlow)
    const route = routeOf(fiber.context, parent, command)
    return route.dispatcher.send(fiber, parent, route, command, own, undefined)
  })

export const sendSettled = (command: Command.Any, own: OwnMediator | undefined): AnyEffect =>
  Effect.withFiber((fiber) => {
    const parent = Context.get(fiber.context, CurrentFlow)
    const route = routeOf(fiber.context, parent, command)
    const settled = new Settled()
    return settled.settle(route.dispatcher.send(fiber, parent, route, command, own, settled))
  })

export const stream = (command: Command.Any, own: OwnMediator | undefined): AnyStream =>
  Stream.unwrap(Effect.withFiber((fiber) => {
    const route = routeOf(fiber.context, Context.get(fiber.context, CurrentFlow), command)
    return Effect.succeed(streamOf(route.dispatcher, route, command, own))
  }))

const routeOf = (context: Context.Context<never>, parent: Flow | undefined, command: Command.Any): Route => {
  const definition = (command as unknown as { readonly [TypeId]: Definition | undefined })[TypeId]
  if (definition === undefined) {
    throw new Error(
      `"${command._tag}" is a plain object with the fields of a command, such as a copy by spread: ` +
        `make it with new ${command._tag}({ ... })`
    )
  }
  const route = findRoute(context, parent, definition)
  if (route === undefined) {
    // Not reachable without a cast: the type of `send` requires the flow
    throw new Error(
      `No flow with command "${definition.tag}" is provided: list it in an EventFlow and provide the layer of that`
    )
  }
  if (route.definition !== definition) throw anotherClass(route, definition)
  return route
}

/**
 * What a handler sends goes by the flow that runs it, unless the handler itself
 * provides another one; everything else by what is provided.
 */
const findRoute = (
  context: Context.Context<never>,
  flow: Flow | undefined,
  { routeKey, tag }: Definition
): Route | undefined => {
  const provided = Context.getOrUndefined(context, routeKey)
  const ofFlow = flow?.routes?.get(tag)
  if (flow === undefined || ofFlow === undefined) return provided
  return provided === undefined || provided === Context.getOrUndefined(flow.caller, routeKey) ? ofFlow : provided
}

const anotherClass = ({ definition: known, dispatcher }: Route, sent: Definition): Error =>
  new Error(
    `Two command classes have the tag "${sent.tag}": ${describe(known)}, of flow "${dispatcher.name}", and ` +
      `${describe(sent)}, which was sent. Rename one, or remove the second copy of its module`
  )

const describe = (definition: Command.AnyClass): string =>
  `the one with payload {${Object.keys(definition.payload).join(", ")}}`
