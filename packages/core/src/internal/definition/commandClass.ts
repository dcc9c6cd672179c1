/**
 * Makes the classes of commands and queries, and keeps what their definitions
 * need at run time and nobody else calls.
 */
import * as Context from "effect/Context"
import type * as Effect from "effect/Effect"
import type * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"
import type * as Stream from "effect/Stream"
import type { Collect } from "../../Collect.ts"
import type * as Event from "../../Event.ts"
import type { GivenServices } from "./givenServices.ts"
import { implementationLayer, type ToLayerArguments } from "./implementation.ts"
import { type ComposedMiddleware, composeMiddleware } from "./middlewareList.ts"
import { type AnyCommand, type CommandDefinition, CommandTypeId } from "./models.ts"
import * as SchemaClass from "./schemaClass.ts"

/** A command's definition, as its instances lead to it. */
export interface Definition extends CommandDefinition {
  /** Under which a context holds what the layer of its flow provides. */
  readonly routeKey: Context.Key<never, object>
  /** Under which a context holds what its own layer provides. */
  readonly implementationKey: Context.Key<never, BoundCommand>
}

export type RunCommand = (
  command: AnyCommand,
  context: Collect<Event.Any>
) => Effect.Effect<unknown, unknown> | Stream.Stream<unknown, unknown>

/** A command's implementation, as its layer provides it. */
export interface BoundCommand {
  readonly definition: Definition
  readonly run: RunCommand
  readonly services: GivenServices
  readonly middleware: ComposedMiddleware | undefined
}

/** The definition of a command class; undefined for any other class. */
export const definitionOfClass = (command: CommandDefinition): Definition =>
  (command as unknown as { readonly prototype: { readonly [CommandTypeId]: Definition } }).prototype[CommandTypeId]

/** `Command.Options`, erased. */
interface Options {
  readonly payload?: Schema.Struct.Fields | undefined
  readonly success?: Schema.Top | undefined
  readonly error?: Schema.Top | undefined
  readonly emits?: CommandDefinition["emits"] | undefined
  readonly sends?: CommandDefinition["sends"] | undefined
  readonly middleware?: CommandDefinition["middleware"] | undefined
  readonly requires?: CommandDefinition["requires"] | undefined
  readonly stream?: boolean | undefined
}

/** The class, which the caller casts to the type that it has computed from the options. */
export const makeCommand = (kind: "Command" | "Query", tag: string, options: Options): unknown => {
  const fields = options.payload ?? {}
  const definition: Definition = {
    [CommandTypeId]: CommandTypeId,
    tag,
    kind,
    mode: options.stream === true ? "stream" : "single",
    emits: options.emits ?? [],
    sends: options.sends ?? [],
    middleware: options.middleware ?? [],
    requires: options.requires ?? [],
    successSchema: options.success ?? Schema.Void,
    errorSchema: options.error ?? Schema.Never,
    payload: fields,
    routeKey: Context.Service<never, object>(`@event-flow/core/Command/${tag}`),
    implementationKey: Context.Service<never, BoundCommand>(`@event-flow/core/Command/${tag}/implementation`)
  }
  const toLayer = (...args: ToLayerArguments<RunCommand>): Layer.Layer<never> =>
    implementationLayer({
      definition,
      name: `command "${tag}"`,
      key: definition.implementationKey,
      arguments: args,
      bind: (run, services, context): BoundCommand => ({
        definition,
        run,
        services,
        middleware: composeMiddleware(definition.middleware, context, definition.requires)
      })
    })
  const { implementationKey: _, routeKey: __, ...statics } = definition
  return SchemaClass.make({
    tag,
    fields,
    statics: { ...statics, of: (handler: unknown) => handler, toLayer },
    prototype: { [CommandTypeId]: definition }
  })
}
