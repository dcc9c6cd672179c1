/**
 * The event classes of a flow, which have a tag each (F14).
 */
import type * as Event from "../../Event.ts"
import type { CommandDefinition, Duplicate, HandlerDefinition } from "./models.ts"

/** The first two event classes of one tag among those that these definitions emit or handle. */
export const sameTag = (
  commands: ReadonlyArray<CommandDefinition>,
  handlers: ReadonlyArray<HandlerDefinition>
): Duplicate | undefined => {
  const known = new Map<string, { readonly event: Event.AnyClass; readonly description: string }>()
  for (const [event, use] of uses(commands, handlers)) {
    const first = known.get(event.tag)
    const description = `the one with fields {${fieldsOf(event)}} ${use}`
    if (first === undefined) known.set(event.tag, { event, description })
    else if (first.event !== event) {
      return { kind: "event", definition: event.tag, first: first.description, second: description }
    }
  }
  return undefined
}

const uses = (
  commands: ReadonlyArray<CommandDefinition>,
  handlers: ReadonlyArray<HandlerDefinition>
): ReadonlyArray<readonly [event: Event.AnyClass, use: string]> => [
  ...handlers.flatMap(({ name, on }) => on.map((event) => [event, `handled by "${name}"`] as const)),
  ...commands.flatMap(({ emits, tag }) => emits.map((event) => [event, `emitted by "${tag}"`] as const)),
  ...handlers.flatMap(({ emits, name }) => emits.map((event) => [event, `emitted by "${name}"`] as const))
]

const fieldsOf = (event: Event.AnyClass): string =>
  Object.keys(event.fields).filter((name) => name !== "_tag").join(", ")
