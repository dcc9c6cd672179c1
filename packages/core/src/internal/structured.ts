/**
 * CloudEvents 1.0 in structured content mode: attributes and data in one JSON
 * document, which the content type says
 * (https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/formats/json-format.md).
 */
import * as Base64 from "effect/encoding/Base64"
import * as Predicate from "effect/Predicate"
import * as Result from "effect/Result"
import * as Message from "../Message.ts"
import { emptyRecord } from "./bare.ts"

/** Whether attributes and data are in the body, whatever headers there are: the bindings allow the same beside it. */
export const isStructured = (message: Message.Message): boolean => {
  const contentType = Message.attribute(message, "datacontenttype")
  // Usual, and quicker to tell
  const isUsual = contentType === undefined || contentType === "application/json"
  // A tombstone is none, whatever its content type
  if (!isUsual && essence(contentType).startsWith(mark)) return message.body !== null
  return Message.attribute(message, "type") === undefined && isEnvelope(message)
}

/** The same message in binary mode. A text: why it is none. */
export const toBinary = (message: Message.Message): Message.Message | string => {
  const own = Message.attribute(message, "datacontenttype")
  const contentType = essence(own ?? "")
  if (contentType.startsWith(`${mark}-batch`)) {
    return `it is a batch ("${contentType}"): publish each event as a message of its own`
  }
  if (contentType.startsWith(mark) && contentType !== `${mark}+json`) {
    return `its format "${contentType}" is none that this program reads`
  }
  let envelope: unknown
  try {
    envelope = parse(message)
  } catch (error) {
    return `its envelope is no JSON: ${error instanceof Error ? error.message : String(error)}`
  }
  if (!Predicate.isObject(envelope)) return "its envelope is no object"
  const attributes = emptyRecord<string>()
  for (const [name, value] of Object.entries(envelope)) {
    // Null says that there is no such attribute
    if (name === "data" || name === "data_base64" || value === null) continue
    if (typeof value === "object") return `its attribute "${name}" is no text, number or boolean`
    attributes[name] = String(value)
  }
  if (attributes["specversion"] !== "1.0") {
    return `its specversion is ${attributes["specversion"] ?? "missing"}, not 1.0`
  }
  const body = bodyOf(envelope, attributes["datacontenttype"] ??= dataContentType(own))
  return typeof body === "string" ? body : Message.copy(message, { attributes, body })
}

/** The message in structured mode, with the same attributes as headers, given the JSON text of its data. */
export const toStructured = (message: Message.Message, json: string): Message.Message => {
  const { attributes } = message
  return Message.copy(message, {
    attributes: { ...attributes, datacontenttype: "application/cloudevents+json; charset=UTF-8" },
    body: encoder.encode(`${JSON.stringify(attributes).slice(0, -1)},"data":${json}}`)
  })
}

/** The message as it is to be read: in binary mode, unless it is one that nobody can read. Never throws. */
export const readable = (message: Message.Message): Message.Message => {
  try {
    const binary = isStructured(message) ? toBinary(message) : message
    return typeof binary === "string" ? message : binary
  } catch {
    return message
  }
}

// --- internal ---

const encoder = new TextEncoder()
const decoder = new TextDecoder("utf-8", { fatal: true })

/** The beginning of the content types of this mode. */
const mark = "application/cloudevents"

/** The SDK for Python names the content type of the data in place of that of the envelope. */
const dataContentType = (own: string | undefined): string =>
  own === undefined || essence(own).startsWith(mark) ? "application/json" : own

const parse = ({ body }: Message.Message): unknown => body === null ? undefined : JSON.parse(decoder.decode(body))

const isEnvelope = (message: Message.Message): boolean => {
  try {
    const json = parse(message)
    return Predicate.isObject(json) && required.every((name) => name in json && typeof json[name] === "string")
  } catch {
    return false
  }
}

const required = ["specversion", "id", "source", "type"] as const

/** The content type without parameters, such as a charset. */
const essence = (contentType: string): string => contentType.split(";", 1)[0]!.trim().toLowerCase()

const bodyOf = (envelope: object, contentType: string): Uint8Array | string => {
  const data = "data" in envelope ? envelope.data : undefined
  const base64 = "data_base64" in envelope ? envelope.data_base64 : undefined
  if (base64 !== undefined && base64 !== null) {
    if (data !== undefined && data !== null) return "it has both data and data_base64"
    const bytes = typeof base64 === "string" ? Result.getOrUndefined(Base64.decode(base64)) : undefined
    return bytes ?? "its data_base64 is no base64"
  }
  if (data === undefined) return new Uint8Array(0)
  const isText = typeof data === "string" && !/[/+]json$/.test(essence(contentType))
  return encoder.encode(isText ? data : JSON.stringify(data))
}
