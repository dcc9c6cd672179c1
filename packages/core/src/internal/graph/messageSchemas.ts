/** The JSON Schemas of messages: their attributes, and their bodies. */
import * as Equal from "effect/Equal"
import * as JsonSchema from "effect/JsonSchema"
import * as Schema from "effect/Schema"

/** The attributes that the CloudEvents codec writes. */
const Attributes = Schema.Struct({
  specversion: Schema.Literal("1.0"),
  id: Schema.String.annotate({ description: "Unique for each message; UUID version 7" }),
  type: Schema.String.annotate({ description: "Tag and version of the event, the name of the message" }),
  source: Schema.String.annotate({ format: "uri-reference", description: "The program that published it" }),
  time: Schema.String.annotate({ format: "date-time" }),
  datacontenttype: Schema.Literal("application/json"),
  subject: Schema.optionalKey(Schema.String.annotate({ description: "The key: messages of one key keep their order" })),
  correlationid: Schema.optionalKey(
    Schema.String.annotate({ description: "The same for everything that one request has led to" })
  ),
  causationid: Schema.optionalKey(Schema.String.annotate({ description: "What directly led to this message" })),
  traceparent: Schema.optionalKey(Schema.String.annotate({ description: "W3C Trace Context" })),
  tracestate: Schema.optionalKey(
    Schema.String.annotate({ description: "W3C Trace Context, of the vendors of tracers" })
  )
}).annotate({
  identifier: "CloudEvent",
  description: "CloudEvents 1.0 attributes, in binary content mode. Brokers prefix their names: " +
    "`ce_` with Kafka, `cloudEvents:` with AMQP; `datacontenttype` is the content type of the transport"
})

/** The JSON form of all schemas at once, so that they share definitions and no two of those have one name. */
export const jsonSchemas = (schemas: ReadonlyArray<Schema.Constraint>) => {
  const all = Schema.toJsonSchemaDocument(Schema.Tuple([Attributes, ...schemas]))
  // OpenAPI 3.1 keeps shared schemas where AsyncAPI does, under the same kind of names
  const shared = JsonSchema.toMultiDocumentOpenApi3_1({
    dialect: all.dialect,
    // Those of the tuple, which has one element at least
    schemas: all.schema["prefixItems"] as [JsonSchema.JsonSchema, ...Array<JsonSchema.JsonSchema>],
    definitions: all.definitions
  })
  const [attributes, ...payloads] = shared.schemas.map(toDraft07)
  return {
    attributes: attributes!,
    payloads: payloads.map((schema) => Equal.equals(schema, notNull) ? { type: "object" } : schema),
    components: Object.fromEntries(
      Object.entries(shared.definitions).map(([name, schema]) => [name, toDraft07(schema)])
    )
  }
}

/** What effect makes of a struct without fields; a body is always an object. */
const notNull = { not: { type: "null" } }

const toDraft07 = (schema: JsonSchema.JsonSchema): Schema.JsonObject =>
  // A schema is JSON
  JsonSchema.toDocumentDraft07({ dialect: "draft-2020-12", schema, definitions: {} }).schema as Schema.JsonObject
