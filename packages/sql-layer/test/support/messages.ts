/** Messages that say what they are: their key, and which of it. */
import { Message } from "@event-flow/core"

const encoder = new TextEncoder()
const decoder = new TextDecoder()
let messages = 0

/** `"a:1"` is the first message of key a, `":1"` has no key. */
export const message = (text: string, topic = "topic"): Message.Message =>
  Message.make({
    topic,
    key: keyOf(text) || undefined,
    attributes: { specversion: "1.0", id: `${text} ${messages++}`, type: "Note.v1", source: "/test" },
    body: encoder.encode(text)
  })

export const keyOf = (text: string): string => text.slice(0, text.indexOf(":"))
export const numberOf = (text: string): number => Number(text.slice(text.indexOf(":") + 1))
export const textOf = (message: Message.Message): string => decoder.decode(message.body!)

/** `["a:1", "a:2" ...]` */
export const numbered = (key: string, count: number): Array<string> =>
  Array.from({ length: count }, (_, n) => `${key}:${n + 1}`)

export const byKey = (texts: ReadonlyArray<string>): Map<string, Array<string>> => {
  const keys = new Map<string, Array<string>>()
  for (const text of texts) {
    const key = keyOf(text)
    const known = keys.get(key)
    if (known === undefined) keys.set(key, [text])
    else known.push(text)
  }
  return keys
}

/** The first of each list, then the second of each, and so on. */
export const inTurns = (...lists: ReadonlyArray<ReadonlyArray<string>>): Array<string> =>
  lists[0]!.flatMap((_, n) => lists.map((list) => list[n]!))
