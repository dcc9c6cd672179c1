/**
 * From an event to a message and back. The default writes CloudEvents 1.0 in
 * binary content mode with JSON data.
 *
 * @stability unstable
 * @since 0.1.0
 */
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as SecureRandom from "effect/crypto/SecureRandom"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"
import * as Broker from "./Broker.ts"
import * as Correlation from "./Correlation.ts"
import { jsonIdentityFields } from "./internal/fastPath.ts"
import { jsonPick } from "./internal/jsonFields.ts"
import { withShortcut } from "./internal/shortcut.ts"
import * as Traceparent from "./internal/traceparent.ts"
import { attribute, type Message, quickText } from "./Message.ts"
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
     * - `"NoType"`: no `type` attribute: no CloudEvent, or one in structured mode.
     * - `"UnknownType"`: no event of this tag is known to the consumer.
     * - `"UnknownVersion"`: newer than this program, or older with no `upcast`.
     * - `"InvalidBody"`: the body is not the JSON that the event's schema describes.
     */
    reason: Schema.Literals(["NoType", "UnknownType", "UnknownVersion", "InvalidBody"]),
    detail: Schema.String
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
  /** W3C Trace Context of the span that publishes. */
  readonly traceparent: string | undefined
  /** Read when the message is encoded: the time of the event. */
  readonly clock: Clock.Clock
}

/**
 * Encodes and decodes.
 *
 * @stability unstable
 * @category services
 * @since 0.1.0
 */
export class MessageCodec extends Context.Service<MessageCodec, {
  readonly encode: (
    event: NotificationEvent.Any,
    context: MessageContext
  ) => Effect.Effect<Message, Broker.PublishError>
  /** `known`: the event classes that the consumer handles, by tag. */
  readonly decode: (
    message: Message,
    known: ReadonlyMap<string, NotificationEvent.AnyClass>
  ) => Effect.Effect<NotificationEvent.Any, DecodeError>
}>()("@event-flow/core/MessageCodec") {}

/**
 * How our own consumer has our own codec decode: at once, and without an
 * Effect. Undefined: ask `decode`, which says what is wrong, if anything is.
 *
 * @stability unstable
 * @category models
 * @since 0.1.0
 */
export interface DecodesNow {
  readonly [decodesNow]: (
    known: ReadonlyMap<string, NotificationEvent.AnyClass>
  ) => (message: Message) => NotificationEvent.Any | undefined
}

/**
 * The key of `DecodesNow`.
 *
 * @stability unstable
 * @category getters
 * @since 0.1.0
 */
export const decodesNow: unique symbol = Symbol("@event-flow/core/MessageCodec/decodesNow")

/**
 * The `type` attribute of an event class: its tag and version.
 *
 * @stability unstable
 * @category getters
 * @since 0.1.0
 */
export const typeOf = (event: NotificationEvent.AnyClass): string => `${event.tag}.v${event.route.version}`

// --- internal ---

interface ClassCodec {
  readonly type: string
  /** The fields of the event and their quoted names, when its JSON form is its fields as they are. */
  readonly identity: ReadonlyArray<readonly [name: string, quoted: string]> | undefined
  readonly toJson: (event: NotificationEvent.Any) => Exit.Exit<unknown, Schema.SchemaError>
  readonly fromJson: (json: unknown) => Effect.Effect<NotificationEvent.Any, Schema.SchemaError>
  /** The event without a schema pass, or undefined when a value needs one. */
  readonly fromPlain: (json: unknown) => NotificationEvent.Any | undefined
  readonly steps: ReadonlyArray<(json: unknown) => Effect.Effect<unknown, Schema.SchemaError>>
}

// Schemas derived from definitions, which live as long as the program
const classCodecs = new WeakMap<NotificationEvent.AnyClass, ClassCodec>()

const classCodec = (event: NotificationEvent.AnyClass): ClassCodec => {
  const cached = classCodecs.get(event)
  if (cached !== undefined) return cached
  const schema = Schema.toCodecJson(event as unknown as Schema.Codec<NotificationEvent.Any, unknown>)
  const decode = Schema.decodeUnknownEffect(schema)
  const steps = event.route.upcast?.steps ?? []
  const pick = jsonPick(event.fields)
  const Event = event as unknown as new(fields: object) => NotificationEvent.Any
  const codec: ClassCodec = {
    type: typeOf(event),
    identity: jsonIdentityFields(event.fields)?.map((name) => [name, `${JSON.stringify(name)}:`]),
    toJson: Schema.encodeExit(schema),
    // The tag is in the type attribute and not in the body
    fromJson: (json) => decode(isRecord(json) ? { ...json, _tag: event.tag } : json),
    fromPlain: (json) => {
      const fields = isRecord(json) ? pick?.(json) : undefined
      return fields === undefined ? undefined : new Event(fields)
    },
    steps: steps.map((step, i) => {
      const decodeStep = Schema.decodeUnknownEffect(Schema.toCodecJson(step.schema))
      const make = (fields: unknown) =>
        Effect.suspend(() => (event as unknown as Schema.Codec<unknown>).makeEffect(fields as never))
      return (json: unknown) =>
        Effect.flatMap(decodeStep(json), (first) => {
          let value: unknown = first
          for (const next of steps.slice(i)) value = next.up(value)
          return Effect.mapError(make(value), (issue) => new Schema.SchemaError(issue))
        })
    })
  }
  classCodecs.set(event, codec)
  return codec
}

const encoder = new TextEncoder()

// `encode` costs 300 ns for a short text, writing to a buffer that is there already 60
const scratch = new Uint8Array(16_384)

const encodeUtf8 = (text: string): Uint8Array =>
  // UTF-8 takes at most 3 bytes for each UTF-16 code unit
  text.length * 3 > scratch.length
    ? encoder.encode(text)
    : scratch.slice(0, encoder.encodeInto(text, scratch).written)

const decoder = new TextDecoder("utf-8", { fatal: true })

const isRecord = (value: unknown): value is Record<string, unknown> =>
  typeof value === "object" && value !== null && !Array.isArray(value)

/** The JSON form without a schema pass, or undefined when a value needs one. */
const identityJson = (
  event: NotificationEvent.Any,
  fields: NonNullable<ClassCodec["identity"]>
): string | undefined => {
  const values = event as unknown as Record<string, unknown>
  let json = ""
  for (const [name, quoted] of fields) {
    const value = values[name]
    if (value === undefined) continue
    if (typeof value === "number") {
      if (!Number.isFinite(value)) return undefined
      json += (json === "" ? "{" : ",") + quoted + value
    } else {
      json += (json === "" ? "{" : ",") + quoted + JSON.stringify(value)
    }
  }
  return json === "" ? "{}" : json + "}"
}

const noHeaders: Message["headers"] = {}

class CloudEvent implements Message {
  readonly topic: string
  readonly key: string | undefined
  readonly body: Uint8Array
  readonly headers: Message["headers"] = noHeaders
  readonly #source: string
  readonly #type: string
  readonly #time: number
  /** Until the attributes are made: it holds on to all that the publisher's fiber had. */
  #context: MessageContext | undefined
  #attributes: Readonly<Record<string, string>> | undefined = undefined

  constructor(
    route: NotificationEvent.Route,
    key: string | undefined,
    body: Uint8Array,
    type: string,
    source: string,
    context: MessageContext
  ) {
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
    const { correlation, traceparent } = this.#context!
    const attributes: Record<string, string> = {
      specversion: "1.0",
      id: SecureRandom.uuidV7Unsafe(),
      type: this.#type,
      source: this.#source,
      time: new Date(this.#time).toISOString(),
      datacontenttype: "application/json"
    }
    // A subject must not be empty (CloudEvents 1.0)
    if (this.key !== undefined && this.key !== "") attributes["subject"] = this.key
    if (correlation !== undefined) {
      attributes["correlationid"] = correlation.correlationId
      if (correlation.causationId !== undefined) attributes["causationid"] = correlation.causationId
    }
    if (traceparent !== undefined) attributes["traceparent"] = traceparent
    this.#context = undefined
    return this.#attributes = attributes
  }
}

const typePattern = /^(.+)\.v([1-9][0-9]*)$/

const decodeNow: DecodesNow[typeof decodesNow] = (known) => {
  const codecs = new Map(Array.from(known.values(), (event) => [typeOf(event), classCodec(event)]))
  return (message) => {
    const codec = codecs.get(attribute(message, "type") ?? "")
    if (codec === undefined) return undefined
    try {
      return codec.fromPlain(JSON.parse(message[quickText]?.() ?? decoder.decode(message.body)))
    } catch {
      // `decode` comes upon it as well, and says so
      return undefined
    }
  }
}

const makeService = (source: string): MessageCodec["Service"] => ({
  encode: (event, context) => {
    const definition = NotificationEvent.classOf(event)
    const codec = classCodec(definition)
    let json = codec.identity === undefined ? undefined : identityJson(event, codec.identity)
    if (json === undefined) {
      const encoded = codec.toJson(event)
      if (Exit.isFailure(encoded)) {
        return Effect.catch(
          encoded,
          (error) => Effect.fail(encodeFailed(definition, codec, error))
        ) as Effect.Effect<never, Broker.PublishError>
      }
      const { _tag: _, ...fields } = encoded.value as Record<string, unknown>
      json = JSON.stringify(fields)
    }
    const route = definition.route
    const key = route.key?.(event as never)
    return Effect.succeed(new CloudEvent(route, key, encodeUtf8(json), codec.type, source, context))
  },
  decode: (message, known) =>
    Effect.suspend(() => {
      const fail = (reason: DecodeError["reason"], detail: string) =>
        Effect.fail(
          new DecodeError({
            topic: message.topic,
            messageId: message.attributes["id"] ?? "(no id)",
            messageType: message.attributes["type"] ?? "(no type)",
            reason,
            detail
          })
        )
      const type = message.attributes["type"]
      if (type === undefined) return fail("NoType", "it has no CloudEvents type attribute")
      const match = typePattern.exec(type)
      const definition = match === null ? undefined : known.get(match[1]!)
      if (match === null || definition === undefined) {
        return fail("UnknownType", `known are ${Array.from(known.values(), typeOf).join(", ")}`)
      }
      const codec = classCodec(definition)
      const version = Number(match[2])
      const current = definition.route.version
      const decode = version === current ? codec.fromJson : codec.steps[version - 1]
      if (decode === undefined || version > current) {
        return fail(
          "UnknownVersion",
          version > current
            ? `this program knows "${definition.tag}" up to version ${current}: deploy it first`
            : `"${definition.tag}" declares no upcast from version ${version} to ${current}`
        )
      }
      let json: unknown
      try {
        json = JSON.parse(decoder.decode(message.body))
      } catch (error) {
        return fail("InvalidBody", error instanceof Error ? error.message : String(error))
      }
      const event = version === current ? codec.fromPlain(json) : undefined
      if (event !== undefined) return Effect.succeed(event)
      return Effect.catch(
        decode(json) as Effect.Effect<NotificationEvent.Any, Schema.SchemaError>,
        (error) => fail("InvalidBody", error.message)
      )
    })
})

const make = (source: string): MessageCodec["Service"] & DecodesNow =>
  withShortcut(makeService(source), decodesNow, decodeNow)

const encodeFailed = (
  definition: NotificationEvent.AnyClass,
  codec: ClassCodec,
  error: Schema.SchemaError
): Broker.PublishError =>
  new Broker.PublishError({
    topic: definition.route.topic,
    messageType: codec.type,
    reason: new Broker.EncodeFailed({ detail: error.message, cause: error })
  })

// --- layers, below what they are made of ---

/**
 * The CloudEvents codec.
 *
 * @stability unstable
 * @category layers
 * @since 0.1.0
 */
export const layerCloudEvents = (options?: {
  /** The `source` attribute: which program speaks, as a URI reference. Default: `"/event-flow"`. */
  readonly source?: string | undefined
}): Layer.Layer<MessageCodec> => Layer.succeed(MessageCodec)(make(options?.source ?? "/event-flow"))

/**
 * The CloudEvents codec with the default source.
 *
 * @stability unstable
 * @category layers
 * @since 0.1.0
 */
export const layer: Layer.Layer<MessageCodec> = layerCloudEvents()

/**
 * The message context of a fiber's context: its correlation, its span and its
 * clock, each looked up when first needed.
 *
 * @stability unstable
 * @category getters
 * @since 0.1.0
 */
export const contextOf = (context: Context.Context<never>): MessageContext => new FiberMessageContext(context)

class FiberMessageContext implements MessageContext {
  readonly #context: Context.Context<never>
  constructor(context: Context.Context<never>) {
    this.#context = context
  }
  get correlation(): Correlation.Correlation | undefined {
    return Context.get(this.#context, Correlation.Current)
  }
  get traceparent(): string | undefined {
    return Traceparent.fromContext(this.#context)
  }
  get clock(): Clock.Clock {
    return Context.get(this.#context, Clock.Clock)
  }
}
