/**
 * From a command to the dispatcher of the flow that lists it.
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Stream from "effect/Stream"
import type { Definition } from "../definition/commandClass.ts"
import { type AnyCommand, type CommandDefinition, CommandTypeId } from "../definition/models.ts"
import type { AnyEffect } from "./dispatch.ts"
import type { OwnMediator } from "./dispatcher.ts"
import { CurrentFlow, type Flow } from "./flow.ts"
import { type Route, routeOf } from "./route.ts"
import { Settled } from "./settled.ts"
import { streamOf } from "./streaming.ts"

type AnyStream = Stream.Stream<unknown, unknown>

/** A mediator made by `Mediator.Service`, whose types say what its middleware does. */
export interface ErasedMediator {
  readonly send: (command: AnyCommand) => AnyEffect
  readonly sendSettled: (command: AnyCommand) => AnyEffect
  readonly stream: (command: AnyCommand) => AnyStream
}

export const mediatorOf = (own: OwnMediator): ErasedMediator => ({
  send: (command) => send(command, own),
  sendSettled: (command) => sendSettled(command, own),
  stream: (command) => stream(command, own)
})

export const send = (command: AnyCommand, own: OwnMediator | undefined): AnyEffect =>
  Effect.withFiber((fiber) => {
    const parent = Context.get(fiber.context, CurrentFlow)
    const route = find(fiber.context, parent, command)
    return route.dispatcher.send(fiber, parent, route, command, own, undefined)
  })

export const sendSettled = (command: AnyCommand, own: OwnMediator | undefined): AnyEffect =>
  Effect.withFiber((fiber) => {
    const parent = Context.get(fiber.context, CurrentFlow)
    const route = find(fiber.context, parent, command)
    const settled = new Settled()
    return settled.settle(route.dispatcher.send(fiber, parent, route, command, own, settled))
  })

export const stream = (command: AnyCommand, own: OwnMediator | undefined): AnyStream =>
  Stream.unwrap(Effect.withFiber((fiber) => {
    const route = find(fiber.context, Context.get(fiber.context, CurrentFlow), command)
    return Effect.succeed(streamOf(route.dispatcher, route, command, own))
  }))

const find = (context: Context.Context<never>, parent: Flow | undefined, command: AnyCommand): Route => {
  // The prototype of a command holds its definition; a copy by spread has none
  const definition = (command as { readonly [CommandTypeId]?: Definition })[CommandTypeId]
  if (definition === undefined) {
    throw new Error(
      `"${command._tag}" is a plain object with the fields of a command, such as a copy by spread: ` +
        `make it with new ${command._tag}({ ... })`
    )
  }
  const route = routeOf(context, parent, definition)
  if (route === undefined) {
    // Not reachable without a cast: the type of `send` requires the flow
    throw new Error(
      `No flow with command "${definition.tag}" is provided: list it in an EventFlow and provide the layer of that`
    )
  }
  if (route.definition !== definition) throw anotherClass(route, definition)
  return route
}

const anotherClass = ({ definition: known, dispatcher }: Route, sent: Definition): Error =>
  new Error(
    `Two command classes have the tag "${sent.tag}": ${describe(known)}, of flow "${dispatcher.name}", and ` +
      `${describe(sent)}, which was sent. Rename one, or remove the second copy of its module`
  )

const describe = (definition: CommandDefinition): string =>
  `the one with payload {${Object.keys(definition.payload).join(", ")}}`
