/**
 * From an event to a message and back. The default writes CloudEvents 1.0 in
 * binary content mode with JSON data, and reads structured mode as well.
 *
 * @stability unstable
 * @since 0.1.0
 */
import type * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"
import * as Broker from "./Broker.ts"
import type * as Correlation from "./Correlation.ts"
import type * as Ids from "./Ids.ts"
import * as ClassCodec from "./internal/definition/classCodec.ts"
import { describeId, describeType } from "./internal/describe.ts"
import * as Structured from "./internal/structured.ts"
import { attribute, type Headers, type Message } from "./Message.ts"
import * as NotificationEvent from "./NotificationEvent.ts"

/**
 * A message could not be turned into an event.
 *
 * @stability unstable
 * @category errors
 * @since 0.1.0
 */
export class DecodeError extends Schema.TaggedError<DecodeError>("@event-flow/core/MessageCodec/DecodeError")(
  "DecodeError",
  {
    topic: Schema.String,
    messageId: Schema.String,
    messageType: Schema.String,
    /**
     * - `"NoType"`: no `type` attribute: no CloudEvent.
     * - `"InvalidEnvelope"`: its content type says structured mode, and it is none in JSON: a batch, another format,
     *   or an envelope that is broken.
     * - `"UnknownType"`: no event of this tag is known to the consumer.
     * - `"UnknownVersion"`: newer than this program, older with no `upcast`, or no version at all.
     * - `"Tombstone"`: it has no body (null), and the consumer handles no tombstone with this topic or type.
     * - `"InvalidBody"`: the body is not the JSON that the event's schema describes.
     */
    reason: Schema.Literals(["NoType", "InvalidEnvelope", "UnknownType", "UnknownVersion", "Tombstone", "InvalidBody"]),
    detail: Schema.String,
    /** The defect of a schema or an upcast that died. */
    cause: Schema.optionalKey(Schema.Defect())
  }
) {
  override get message(): string {
    return `Message ${this.messageId} of type "${this.messageType}" on topic "${this.topic}" cannot be decoded: ` +
      `${this.reason}: ${this.detail}`
  }
}

/**
 * What a message says besides its event.
 *
 * @stability unstable
 * @category models
 * @since 0.1.0
 */
export interface MessageContext {
  readonly correlation: Correlation.Correlation | undefined
  /** W3C Trace Context of the span that publishes, or of the consumed message where no tracer runs; always valid. */
  readonly traceparent: string | undefined
  /** The trace state of the consumed message, where `traceparent` is of the same trace. */
  readonly tracestate: string | undefined
  /** The `baggage` header of the consumed message (W3C Baggage). */
  readonly baggage: Headers[string] | undefined
  /** Read when the message is encoded: the time of the event. */
  readonly clock: Clock.Clock
  /** Makes the id of the message. */
  readonly ids: Ids.Ids
}

/**
 * Encodes events and decodes messages.
 *
 * **Details**
 *
 * An `Exit` is an Effect that is done at once. Publishing and consuming are
 * quicker with a codec that answers with one wherever it can.
 *
 * @stability unstable
 * @category models
 * @since 0.1.0
 */
export interface MessageCodec {
  readonly encode: (
    event: NotificationEvent.Any,
    context: MessageContext
  ) => Effect.Effect<Message, Broker.PublishError>
  /** `known`: the event classes that the consumer handles, by tag. */
  readonly decode: (
    message: Message,
    known: ReadonlyMap<string, NotificationEvent.AnyClass>
  ) => Effect.Effect<NotificationEvent.Any, DecodeError>
}

/**
 * The codec of the flows, consumers and test brokers built below it; read when
 * their layers are built. Default: `cloudEvents()`.
 *
 * **Example** (A codec that changes what another one writes)
 *
 * ```ts
 * import { Command, EventFlow, Message, MessageCodec, MemoryBroker, NotificationEvent } from "@event-flow/core"
 * import { Effect, Layer } from "effect"
 *
 * class Sold extends NotificationEvent.Class<Sold>()("Sold", {}, { topic: "sales" }) {}
 * class Sell extends Command.Class<Sell>()("Sell", { emits: [Sold] }) {}
 * class Shop extends EventFlow.make("Shop", { commands: [Sell] }) {}
 *
 * // Adds a prefix to every topic
 * const Prefixed = Layer.effect(
 *   MessageCodec.MessageCodec,
 *   Effect.map(MessageCodec.MessageCodec, (codec) => ({
 *     ...codec,
 *     encode: (event: NotificationEvent.Any, context: MessageCodec.MessageContext) =>
 *       Effect.map(codec.encode(event, context), (message) =>
 *         Message.copy(message, { topic: `test.${message.topic}` }))
 *   }))
 * )
 *
 * const ShopLive = Shop.layer().pipe(
 *   Layer.provide(Sell.toLayer((_, { collect }) => collect(new Sold()))),
 *   Layer.provide([Prefixed, MemoryBroker.layer()])
 * )
 * ```
 *
 * @stability unstable
 * @category references
 * @since 0.1.0
 */
export const MessageCodec: Context.Reference<MessageCodec> = Context.Reference<MessageCodec>(
  "@event-flow/core/MessageCodec",
  { defaultValue: () => cloudEvents() }
)

/**
 * Where the attributes of a published message are (CloudEvents 1.0):
 *
 * - `"binary"`: in headers, with the data alone as the body.
 * - `"structured"`: in the body with the data, as one JSON document of the content
 *   type `application/cloudevents+json`. The headers have them as well, which the
 *   bindings of Kafka and AMQP allow. For readers that know this mode alone.
 *
 * @stability unstable
 * @category models
 * @since 0.1.0
 */
export type ContentMode = "binary" | "structured"

/**
 * The codec that writes and reads CloudEvents. It reads messages of both content
 * modes. A batch is refused (`InvalidEnvelope`).
 *
 * @stability unstable
 * @category constructors
 * @since 0.1.0
 */
export const cloudEvents = (options?: {
  /** The `source` attribute: which program speaks, as a URI reference. Default: `"/event-flow"`. */
  readonly source?: string | undefined
  /** How it writes. Default: `"binary"`. */
  readonly contentMode?: ContentMode | undefined
}): MessageCodec => ({
  encode: encodeAs(options?.source ?? "/event-flow", options?.contentMode === "structured"),
  decode: makeDecode()
})

/**
 * Sets the CloudEvents codec, to name the source or the content mode.
 *
 * @stability unstable
 * @category layers
 * @since 0.1.0
 */
export const layerCloudEvents = (options?: Parameters<typeof cloudEvents>[0]): Layer.Layer<never> =>
  Layer.succeed(MessageCodec)(cloudEvents(options))

/**
 * The `type` attribute of an event class: its tag and version, or the `type` of
 * its definition.
 *
 * @stability unstable
 * @category getters
 * @since 0.1.0
 */
export const typeOf: (event: NotificationEvent.AnyClass) => string = ClassCodec.typeOf

// --- internal ---

const encoder = new TextEncoder()

// `encode` costs 300 ns for a short text, writing to a buffer that is there already 60
const scratch = new Uint8Array(16_384)

const encodeUtf8 = (text: string): Uint8Array =>
  // UTF-8 takes at most 3 bytes for each UTF-16 code unit
  text.length * 3 > scratch.length
    ? encoder.encode(text)
    : scratch.slice(0, encoder.encodeInto(text, scratch).written)

const noHeaders: Message["headers"] = {}

let lastTime = Number.NaN
let lastText = ""

/** Many messages are of one millisecond, whose text takes as long as an id. */
const isoTime = (millis: number): string => {
  if (millis !== lastTime) {
    lastText = new Date(millis).toISOString()
    lastTime = millis
  }
  return lastText
}

class CloudEvent implements Message {
  readonly topic: string
  readonly key: string | undefined
  readonly body: Uint8Array | null
  readonly #source: string
  readonly #type: string
  readonly #time: number
  readonly #id: string | undefined
  /** Until the attributes are made: it holds on to all that the publisher's fiber had. */
  #context: MessageContext | undefined
  #attributes: Readonly<Record<string, string>> | undefined = undefined
  #headers: Message["headers"] = noHeaders

  constructor(
    route: NotificationEvent.Route,
    key: string | undefined,
    body: Uint8Array | null,
    type: string,
    source: string,
    context: MessageContext,
    id: string | undefined,
    headers: Headers | undefined
  ) {
    this.#id = id
    if (headers !== undefined) this.#headers = headers
    this.topic = route.topic
    this.key = key
    this.body = body
    this.#type = type
    this.#source = source
    // When it happened, and not when somebody reads it
    this.#time = context.clock.currentTimeMillisUnsafe()
    this.#context = context
  }

  // Made when first read, at the latest by the broker's layer: an id and the
  // text of a time cost more than the rest of a publish
  get attributes(): Readonly<Record<string, string>> {
    if (this.#attributes !== undefined) return this.#attributes
    const { baggage, correlation, ids, traceparent, tracestate } = this.#context!
    const attributes: Record<string, string> = {
      specversion: "1.0",
      // It must not be empty (CloudEvents 1.0)
      id: this.#id || ids.next(),
      type: this.#type,
      source: this.#source,
      time: isoTime(this.#time)
    }
    if (this.body !== null) attributes["datacontenttype"] = "application/json"
    // A subject must not be empty (CloudEvents 1.0)
    if (this.key !== undefined && this.key !== "") attributes["subject"] = this.key
    if (correlation !== undefined) {
      attributes["correlationid"] = correlation.correlationId
      if (correlation.causationId !== undefined) attributes["causationid"] = correlation.causationId
    }
    if (traceparent !== undefined) attributes["traceparent"] = traceparent
    if (tracestate !== undefined) attributes["tracestate"] = tracestate
    if (baggage !== undefined && !("baggage" in this.#headers)) this.#headers = { ...this.#headers, baggage }
    this.#context = undefined
    return this.#attributes = attributes
  }

  get headers(): Message["headers"] {
    // Both come from the context, which attributes let go of
    if (this.#attributes === undefined) void this.attributes
    return this.#headers
  }
}

const encodeAs = (source: string, isStructured: boolean): MessageCodec["encode"] => (event, context) => {
  const definition = NotificationEvent.classOf(event)
  const codec = ClassCodec.classCodec(definition)
  // A tombstone says all with its key
  let json = definition.route.tombstone === undefined ? codec.toText(event) : "null"
  if (json === undefined) {
    const encoded = codec.toJson(event)
    if (Exit.isFailure(encoded)) {
      return Effect.mapError(Exit.failCause(encoded.cause), (error) => encodeFailed(definition, codec.type, error))
    }
    // The JSON form of an instance of a class with fields
    const { _tag: _, ...fields } = encoded.value as Readonly<Record<string, unknown>>
    json = JSON.stringify(fields)
  }
  const route = definition.route
  // The functions take events of this class
  const key = route.key?.(event as never)
  const id = route.id?.(event as never)
  const headers = route.headers?.(event as never)
  const body = route.tombstone === undefined ? encodeUtf8(json) : null
  const message = new CloudEvent(route, key, body, codec.type, source, context, id, headers)
  return Exit.succeed(isStructured && body !== null ? Structured.toStructured(message, json) : message)
}

const encodeFailed = (
  definition: NotificationEvent.AnyClass,
  messageType: string,
  error: Schema.SchemaError
): Broker.PublishError =>
  new Broker.PublishError({
    topic: definition.route.topic,
    messageType,
    reason: new Broker.EncodeFailed({ detail: error.message, cause: error })
  })

type Known = Parameters<MessageCodec["decode"]>[1]

/** One version of an event. */
interface Version {
  readonly event: NotificationEvent.AnyClass
  readonly version: number
}

interface Codecs {
  readonly current: ReadonlyMap<string, ClassCodec.ClassCodec>
  readonly older: ReadonlyMap<string, Version>
  /** By topic. */
  readonly tombstones: ReadonlyMap<string, NotificationEvent.AnyClass>
}

// Made once for the events of a consumer: `known` does not change
const codecsByType = new WeakMap<Known, Codecs>()

const codecsOf = (known: Known): Codecs => {
  const cached = codecsByType.get(known)
  if (cached !== undefined) return cached
  const current = new Map<string, ClassCodec.ClassCodec>()
  const older = new Map<string, Version>()
  const tombstones = new Map<string, NotificationEvent.AnyClass>()
  for (const event of known.values()) {
    if (event.route.tombstone !== undefined) tombstones.set(event.route.topic, event)
    current.set(typeOf(event), ClassCodec.classCodec(event))
    for (let version = 1; version < event.route.version; version++) {
      older.set(event.route.type(version), { event, version })
    }
  }
  const codecs = { current, older, tombstones }
  codecsByType.set(known, codecs)
  return codecs
}

const makeDecode = (): MessageCodec["decode"] => {
  // Most programs have one consumer, and a look into the map costs 25 ns
  let last: Known | undefined
  let codecs: Codecs = { current: new Map(), older: new Map(), tombstones: new Map() }
  return (message, known) => {
    if (known !== last) {
      codecs = codecsOf(known)
      last = known
    }
    if (!Structured.isStructured(message)) return decodeBinary(message, known, codecs)
    const binary = Structured.toBinary(message)
    return typeof binary === "string"
      ? decodeFailed(message, "InvalidEnvelope", binary)
      : decodeBinary(binary, known, codecs)
  }
}

const decodeBinary = (message: Message, known: Known, codecs: Codecs): ReturnType<MessageCodec["decode"]> => {
  const type = attribute(message, "type") ?? ""
  const codec = codecs.current.get(type)
  if (codec !== undefined) return decodeCurrent(message, codec, codecs)
  return message.body === null ? decodeTombstone(message, codecs) : decodeOlder(message, type, known, codecs)
}

const decodeCurrent = (
  message: Message,
  codec: ClassCodec.ClassCodec,
  codecs: Codecs
): ReturnType<MessageCodec["decode"]> => {
  let json: unknown
  try {
    json = parse(message)
  } catch (error) {
    // Asked for when there is no other way: a broker's layer cuts the body out of more bytes
    return message.body === null ? decodeTombstone(message, codecs) : unparsable(message, error)
  }
  try {
    const event = codec.fromPlain(json)
    if (event !== undefined) return Exit.succeed(event)
  } catch (defect) {
    return Exit.die(defect)
  }
  return orInvalidBody(message, codec.fromJson(json))
}

/** By its topic alone: most tombstones are written by hand or by a tool, and have no type. */
const decodeTombstone = (message: Message, { tombstones }: Codecs): ReturnType<MessageCodec["decode"]> => {
  const event = tombstones.get(message.topic)
  const read = event?.route.tombstone
  if (event === undefined || read === undefined) {
    return decodeFailed(
      message,
      "Tombstone",
      "it has no body, and no event of its topic that is handled is a tombstone"
    )
  }
  const { key } = message
  if (typeof key !== "string") return decodeFailed(message, "Tombstone", "it has neither a body nor a key that is text")
  return Effect.catch(
    Effect.suspend(() => ClassCodec.classCodec(event).fromFields(read(key))),
    (error) => decodeFailed(message, "Tombstone", `its key "${key}" does not fit: ${error.message}`)
  )
}

/** Decodes what is of no known type in its current version. */
const decodeOlder = (
  message: Message,
  type: string,
  known: Known,
  codecs: Codecs
): ReturnType<MessageCodec["decode"]> => {
  // It must not be empty (CloudEvents 1.0)
  if (type === "") return decodeFailed(message, "NoType", "it has no CloudEvents type attribute")
  const older = codecs.older.get(type)
  if (older === undefined) return decodeFailed(message, ...unknown(type, known))
  const { event, version } = older
  const step = ClassCodec.classCodec(event).steps[version - 1]
  if (step === undefined) {
    return decodeFailed(
      message,
      "UnknownVersion",
      `"${event.tag}" declares no upcast from version ${version} to ${event.route.version}`
    )
  }
  let json: unknown
  try {
    json = parse(message)
  } catch (error) {
    return unparsable(message, error)
  }
  return orInvalidBody(message, step(json))
}

/** Why a type is not known: it may be that of a known event with a version that is none of ours, such as "Order.v0". */
const unknown = (type: string, known: Known): readonly [reason: DecodeError["reason"], detail: string] => {
  for (const event of known.values()) {
    const current = typeOf(event)
    const name = current.replace(versionPattern, "")
    if (!type.startsWith(name)) continue
    const suffix = type.slice(name.length)
    if (versionPattern.exec(suffix)?.index === 0) {
      const detail = `this program knows "${event.tag}" up to version ${event.route.version}: deploy it first`
      return ["UnknownVersion", detail]
    }
    if (/^(\.[vV]?-?[0-9].*)?$/s.test(suffix)) return ["UnknownVersion", `the type of "${event.tag}" is "${current}"`]
  }
  return ["UnknownType", `known are ${Array.from(known.values(), typeOf).join(", ")}`]
}

const versionPattern = /\.v[1-9][0-9]*$/

const decoder = new TextDecoder("utf-8", { fatal: true })

/** Throws for a tombstone. */
const parse = (message: Message): unknown => JSON.parse(message.readText?.() ?? decoder.decode(message.body ?? nothing))

const nothing = new Uint8Array(0)

const unparsable = (message: Message, error: unknown): Exit.Exit<never, DecodeError> =>
  decodeFailed(message, "InvalidBody", error instanceof Error ? error.message : String(error))

const orInvalidBody = <A>(message: Message, decoding: Effect.Effect<A, Schema.SchemaError>) =>
  Effect.catch(decoding, (error) => decodeFailed(message, "InvalidBody", error.message))

const decodeFailed = (
  message: Message,
  reason: DecodeError["reason"],
  detail: string
): Exit.Exit<never, DecodeError> =>
  Exit.fail(
    new DecodeError({
      topic: message.topic,
      messageId: describeId(message),
      messageType: describeType(message),
      reason,
      detail
    })
  )
