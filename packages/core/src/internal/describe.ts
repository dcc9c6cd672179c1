/**
 * Describes errors, messages, commands and events, each in one line of text. Any
 * value can be an error: it may have no JSON form, and its getters may throw.
 */
import * as Formatter from "effect/Formatter"
import { attribute, type Message } from "../Message.ts"

/** The id of a message, `"(no id)"` if it has none. */
export const describeId = (message: Message): string => readableAttribute(message, "id") || "(no id)"

/** The type of a message, `"(no type)"` if it has none. */
export const describeType = (message: Message): string => readableAttribute(message, "type") || "(no type)"

/** An attribute. Undefined also if the broker's layer fails to read it, which must not end the consumer. */
export const readableAttribute = (message: Message, name: string): string | undefined => {
  try {
    return attribute(message, name)
  } catch {
    return undefined
  }
}

/** A command or event: its tag and its fields. */
export const describeValue = (value: { readonly _tag: string }): string => {
  const { _tag, ...fields } = value
  if (Object.keys(fields).length === 0) return _tag
  const text = Formatter.format(fields)
  return `${_tag} ${text.length > maxFields ? `${text.slice(0, maxFields)}…` : text}`
}

const maxFields = 120

/** What an error says: its message, else its tag or name, else its fields. */
export const describe = (error: unknown): string => safely(() => textOf(error))

/** The same behind its tag or name: `OrderNotFound: there is no order 7`. */
export const describeNamed = (error: unknown): string =>
  safely(() => {
    const name = nameOf(error)
    const text = textOf(error)
    return name === undefined || name === text ? text : `${name}: ${text}`
  })

/** An error by its tag, what it says, and its fields: `NoSeat: taken {"seat":"1A"}`. Of what has no tag, what it says. */
export const describeWhole = (error: unknown): string =>
  safely(() => {
    if (typeof error !== "object" || error === null || !("_tag" in error)) return textOf(error)
    const fields = fieldsOf(error, 500)
    return fields === undefined ? describeNamed(error) : `${describeNamed(error)} ${fields}`
  })

/**
 * The fields of an error as a JSON object, long texts shortened, and without what
 * would make it longer than it may be. Undefined: it has none.
 */
export const fieldsOf = (error: unknown, most = 2_000): string | undefined => {
  try {
    if (typeof error !== "object" || error === null) return undefined
    const parts: Array<string> = []
    let length = 2
    for (const [name, value] of Object.entries(error)) {
      if (name === "_tag" || name === "cause" || name === "stack" || name === "message") continue
      // That of an error which came over a wire
      if (name === "name" && value === nameOf(error)) continue
      const part = partOf(name, value)
      if (part === undefined || length + part.length + 1 > most) continue
      length += part.length + 1
      parts.push(part)
    }
    return parts.length === 0 ? undefined : `{${parts.join(",")}}`
  } catch {
    return undefined
  }
}

/** Undefined: it has no JSON form. */
const partOf = (name: string, value: unknown): string | undefined => {
  try {
    const text = JSON.stringify(
      value,
      (_, inner) => typeof inner === "string" && inner.length > maxText ? `${inner.slice(0, maxText)}…` : inner
    )
    return text === undefined ? undefined : `${JSON.stringify(name)}:${text}`
  } catch {
    return undefined
  }
}

const maxText = 300

const safely = (text: () => string): string => {
  try {
    return text()
  } catch {
    return "(an error that cannot be described)"
  }
}

const textOf = (error: unknown): string => {
  if (error instanceof Error && error.message.length > 0) return error.message
  return nameOf(error) ?? (typeof error === "object" && error !== null ? Formatter.format(error) : String(error))
}

const nameOf = (error: unknown): string | undefined => {
  if (typeof error !== "object" || error === null) return undefined
  if ("_tag" in error && typeof error._tag === "string") return error._tag
  return error instanceof Error ? error.name : undefined
}
