/** How the fields of one notification event become JSON and are read back. Made once for each class. */
import * as Effect from "effect/Effect"
import type * as Exit from "effect/Exit"
import * as Predicate from "effect/Predicate"
import * as Schema from "effect/Schema"
import type * as NotificationEvent from "../../NotificationEvent.ts"
import { jsonIdentityFields } from "./fastPath.ts"
import { jsonPick } from "./jsonFields.ts"

export interface ClassCodec {
  readonly type: string
  /** The JSON form without a schema pass; undefined: a value needs one, see `toJson`. */
  readonly toText: (event: NotificationEvent.Any) => string | undefined
  readonly toJson: (event: NotificationEvent.Any) => Exit.Exit<unknown, Schema.SchemaError>
  readonly fromJson: (json: unknown) => Effect.Effect<NotificationEvent.Any, Schema.SchemaError>
  /** From what the constructor takes. */
  readonly fromFields: (fields: unknown) => Effect.Effect<NotificationEvent.Any, Schema.SchemaError>
  /** The event without a schema pass; undefined: a value needs one, see `fromJson`. */
  readonly fromPlain: (json: unknown) => NotificationEvent.Any | undefined
  /** Reads the body of an older version; the first step reads version 1. */
  readonly steps: ReadonlyArray<(json: unknown) => Effect.Effect<NotificationEvent.Any, Schema.SchemaError>>
}

/** The `type` attribute of an event class, by default its tag and version. */
export const typeOf = ({ route }: NotificationEvent.AnyClass): string => route.type(route.version)

// Schemas derived from definitions, which live as long as the program
const classCodecs = new WeakMap<NotificationEvent.AnyClass, ClassCodec>()

export const classCodec = (event: NotificationEvent.AnyClass): ClassCodec => {
  const cached = classCodecs.get(event)
  if (cached !== undefined) return cached
  const codec = make(event)
  classCodecs.set(event, codec)
  return codec
}

interface EventSchema extends Schema.Codec<NotificationEvent.Any, unknown> {
  new(fields: object): NotificationEvent.Any
}

const make = (event: NotificationEvent.AnyClass): ClassCodec => {
  // Every event class is a Schema class. The erased type does not say so: it would have to name the fields
  const Event = event as unknown as EventSchema
  const schema = Schema.toCodecJson(Event)
  const decode = Schema.decodeUnknownEffect(schema)
  const identity: ReadonlyArray<PlainField> | undefined = jsonIdentityFields(event.fields)?.map(
    (name) => [name, `${JSON.stringify(name)}:`]
  )
  const pick = jsonPick(event.fields)
  return {
    type: typeOf(event),
    toText: (event) => identity === undefined ? undefined : plainText(event, identity),
    toJson: Schema.encodeExit(schema),
    // The tag is in the type attribute and not in the body
    fromJson: (json) => decode(Predicate.isObject(json) ? { ...json, _tag: event.tag } : json),
    fromFields: fieldsReader(Event),
    fromPlain: (json) => {
      const fields = Predicate.isObject(json) ? pick?.(json) : undefined
      return fields === undefined ? undefined : new Event(fields)
    },
    steps: upcasts(event.route.upcast, Event)
  }
}

const fieldsReader = (Event: EventSchema): ClassCodec["fromFields"] => (fields) =>
  Effect.mapError(
    Effect.suspend(() => Event.makeEffect(fields as never)),
    (issue) => new Schema.SchemaError(issue)
  )

const upcasts = (upcast: NotificationEvent.Route["upcast"], Event: EventSchema): ClassCodec["steps"] => {
  const steps = upcast?.steps ?? []
  // The last step returns what the constructor takes (`Upcast.toCurrent`)
  const read = fieldsReader(Event)
  return steps.map((step, i) => {
    const decodeStep = Schema.decodeUnknownEffect(Schema.toCodecJson(step.schema))
    return (json) =>
      Effect.flatMap(decodeStep(json), (first) => {
        let value: unknown = first
        for (const next of steps.slice(i)) value = next.up(value)
        return read(value)
      })
  })
}

type PlainField = readonly [name: string, quoted: string]

/** Undefined: a number has a JSON form of its own. */
const plainText = (event: NotificationEvent.Any, fields: ReadonlyArray<PlainField>): string | undefined => {
  // The fields are properties of the event
  const values = event as unknown as Readonly<Record<string, unknown>>
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
