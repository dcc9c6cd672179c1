/** What a definition declares, in one form. */
import type * as Command from "../../Command.ts"

/** The commands that a command or a handler may send: a class, or the tag of a command that is defined later. */
export const sendsOf = (
  definition: { readonly sends: ReadonlyArray<Command.Target> }
): ReadonlyArray<Command.AnyClass | string> =>
  // The type of a target says only what the types of definitions need of a class
  definition.sends as ReadonlyArray<Command.AnyClass | string>
