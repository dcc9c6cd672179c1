/** Messages whose body is a text. */
import * as Message from "@event-flow/core/Message"
import { SecureRandom } from "effect/crypto"

const encoder = new TextEncoder()
const decoder = new TextDecoder()

export const message = (topic: string, text: string, key?: string): Message.Message =>
  Message.make({
    topic,
    key,
    attributes: { specversion: "1.0", id: SecureRandom.uuidV7Unsafe(), type: "Test.v1", source: "/test" },
    body: encoder.encode(text)
  })

export const textOf = ({ body }: Message.Message): string => decoder.decode(body!)

export const numbers = (count: number, from = 0): ReadonlyArray<string> =>
  Array.from({ length: count }, (_, i) => String(from + i))
