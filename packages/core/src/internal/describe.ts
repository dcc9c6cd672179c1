/**
 * Describes an error in one line of text. Any value can be an error: it may
 * have no JSON form, and its getters may throw.
 */
import * as Formatter from "effect/Formatter"

export const describe = (error: unknown): string => {
  try {
    return describeUnsafe(error)
  } catch {
    return "(an error that cannot be described)"
  }
}

const describeUnsafe = (error: unknown): string => {
  if (error instanceof Error) return error.message.length > 0 ? error.message : error.name
  if (typeof error === "object" && error !== null) {
    if ("_tag" in error && typeof error._tag === "string") return error._tag
    return Formatter.format(error)
  }
  return String(error)
}
