/** Which slot of the outbox a message is in: what relays lock, so that one of them at a time has a key. */
import * as Message from "@event-flow/core/Message"

/**
 * How many slots there are. More would allow more batches at once and make each
 * look for work dearer. Fixed: rows that are waiting carry their slot.
 */
export const slots = 64

/** The key as it is compared: as text, for a key of bytes its hexadecimal form. */
export const keyText = (message: Message.Message): string | null => {
  const text = Message.keyString(message)
  if (text === undefined) return null
  return isStorable(text) ? text : `0x${Buffer.from(text, "utf16le").toString("hex")}`
}

/** Whether a text column takes it as it is: no NUL, no half of a surrogate pair. */
export const isStorable = (text: string): boolean => !unstorable.test(text)

/** The text with what no text column takes replaced. */
export const toStorable = (text: string): string => text.replace(unstorables, "\ufffd")

const unstorable = /[\0\p{Surrogate}]/u
const unstorables = new RegExp(unstorable, "gu")

/** FNV-1a (http://www.isthe.com/chongo/tech/comp/fnv/) over UTF-16 code units, both bytes of each in one step. */
export const slotOf = (topic: string, key: string): number => {
  let hash = 0x811c9dc5
  for (let i = 0; i < topic.length; i++) hash = Math.imul(hash ^ topic.charCodeAt(i), 0x01000193)
  hash = Math.imul(hash, 0x01000193)
  for (let i = 0; i < key.length; i++) hash = Math.imul(hash ^ key.charCodeAt(i), 0x01000193)
  // The low bits alone are those of the last characters
  return (hash ^ (hash >>> 15)) & (slots - 1)
}
