/**
 * The notification events of a program as an AsyncAPI 3.0 document: its topics,
 * what it sends to and receives from them, and the JSON Schema of every message.
 *
 * **When to use**
 *
 * To publish the contract of a program to those that share its broker, and in a
 * test that compares it with the one published last.
 *
 * **Details**
 *
 * The document is a plain JSON value, in the order of the definitions: the same
 * definitions give the same text. There is no YAML form; `JSON.stringify` gives
 * what every AsyncAPI tool reads, and JSON is YAML 1.2 as well.
 *
 * **Gotchas**
 *
 * It describes what the CloudEvents codec writes; a `MessageCodec` of your own
 * is not seen. A JSON Schema says less than an Effect schema may: what only code
 * can check, and the text form of a date, are not in it.
 *
 * **Example** (The document of a program)
 *
 * ```ts
 * import { AsyncApi, Command, EventFlow, NotificationEvent } from "@event-flow/core"
 * import { Schema } from "effect"
 *
 * class Sold extends NotificationEvent.Class<Sold>()("Sold", { order: Schema.String }, { topic: "sales" }) {}
 * class Sell extends Command.Class<Sell>()("Sell", { emits: [Sold] }) {}
 * class Shop extends EventFlow.make("Shop", { commands: [Sell] }) {}
 *
 * const document = AsyncApi.make({ info: { title: "Shop", version: "1.0.0" }, flows: [Shop] })
 * const text = JSON.stringify(document, null, 2)
 * ```
 *
 * @stability unstable
 * @since 0.1.0
 */
import * as Equal from "effect/Equal"
import * as JsonPointer from "effect/JsonPointer"
import * as Schema from "effect/Schema"
import * as FlowGraph from "./FlowGraph.ts"
import { identifiers } from "./internal/graph/identifiers.ts"
import { jsonSchemas } from "./internal/graph/messageSchemas.ts"
import * as MessageCodec from "./MessageCodec.ts"
import type * as NotificationEvent from "./NotificationEvent.ts"

/**
 * A document.
 *
 * @stability unstable
 * @category models
 * @since 0.1.0
 */
export interface AsyncApi {
  readonly asyncapi: "3.0.0"
  readonly info: Info
  readonly servers?: Readonly<Record<string, Server>>
  /** By topic. What tools do not take in a key is escaped, here and below: `"a?b"` becomes `"a_3f_b"`. */
  readonly channels: Readonly<Record<string, Channel>>
  /** By action and tag of the event: `"sendMeetingAnnounced"`, `"receiveMeetingAnnounced"`. */
  readonly operations: Readonly<Record<string, Operation>>
  readonly components: { readonly schemas: Readonly<Record<string, JsonSchemaObject>> }
}

/**
 * What the document is about.
 *
 * @stability unstable
 * @category models
 * @since 0.1.0
 */
export interface Info {
  readonly title: string
  /** The version of the program's contract, not that of AsyncAPI. */
  readonly version: string
  readonly description?: string
}

/**
 * A message broker.
 *
 * @stability unstable
 * @category models
 * @since 0.1.0
 */
export interface Server {
  /** Host and port: `"kafka.example.org:9092"`. */
  readonly host: string
  /** `"kafka"`, `"kafka-secure"`, `"amqp"`, `"amqps"` … */
  readonly protocol: string
  readonly protocolVersion?: string
  /** For AMQP: the virtual host. */
  readonly pathname?: string
  readonly title?: string
  readonly summary?: string
  readonly description?: string
}

/**
 * A topic with the messages that travel on it, by their CloudEvents type.
 *
 * @stability unstable
 * @category models
 * @since 0.1.0
 */
export interface Channel {
  /** The topic; null where AsyncAPI would read more into it: a query, a fragment, or a parameter in braces. */
  readonly address: string | null
  /** The topic where it is not the address. */
  readonly title?: string
  readonly messages: Readonly<Record<string, Message>>
}

/**
 * One version of a notification event.
 *
 * @stability unstable
 * @category models
 * @since 0.1.0
 */
export interface Message {
  /** The CloudEvents type: `"MeetingAnnounced.v1"`. */
  readonly name: string
  readonly summary?: string
  readonly contentType: "application/json"
  readonly correlationId: { readonly location: string }
  /** The CloudEvents attributes by their own names: the prefix on the wire is the binding of each broker. */
  readonly headers: JsonSchemaObject
  readonly payload: JsonSchemaObject
  /** The key, of events that have one. */
  readonly bindings?: {
    readonly kafka: { readonly key: JsonSchemaObject; readonly bindingVersion: typeof kafkaBinding }
  }
}

/**
 * What the program does with a notification event.
 *
 * @stability unstable
 * @category models
 * @since 0.1.0
 */
export interface Operation {
  readonly action: "send" | "receive"
  readonly channel: Reference
  /** Who emits or handles the event. */
  readonly summary: string
  /** Of `"send"`: the current version; of `"receive"`: all that can be read, the newest first. */
  readonly messages: ReadonlyArray<Reference>
  /** The consumer group, of `"receive"`. */
  readonly bindings?: {
    readonly kafka: { readonly groupId: JsonSchemaObject; readonly bindingVersion: typeof kafkaBinding }
  }
}

/**
 * A pointer into the document.
 *
 * @stability unstable
 * @category models
 * @since 0.1.0
 */
export interface Reference {
  readonly $ref: string
}

/**
 * An object of JSON Schema draft 7, which is what AsyncAPI 3.0 builds on.
 *
 * @stability unstable
 * @category models
 * @since 0.1.0
 */
export type JsonSchemaObject = Schema.JsonObject

/**
 * The document of a program with these flows.
 *
 * **Details**
 *
 * A `send` operation for every notification event that one of them declares to
 * emit, a `receive` operation for every one that a handler handles. The message
 * of an event's version is named by its CloudEvents type; an event with
 * `upcast` has one for each older version too. Schemas with an identifier are
 * listed in `components.schemas` and referred to.
 *
 * **Gotchas**
 *
 * Throws an `Error` where definitions contradict each other: one event tag on two
 * topics, or one version of an event with two schemas.
 *
 * @stability unstable
 * @category constructors
 * @since 0.1.0
 */
export const make = (options: {
  readonly info: { readonly [K in keyof Info]: Info[K] | undefined } & Pick<Info, "title" | "version">
  /** The flows of the program, and the handlers of its consumers that are in no flow. */
  readonly flows: ReadonlyArray<FlowGraph.Part>
  /** The consumer group of the program's subscriptions. */
  readonly group?: string | undefined
  /** By a name of your choice. Default: none listed. */
  readonly servers?:
    | Readonly<
      Record<string, { readonly [K in keyof Server]: Server[K] | undefined } & Pick<Server, "host" | "protocol">>
    >
    | undefined
}): AsyncApi => {
  const graph = FlowGraph.make(...options.flows)
  const events = graph.nodes.filter((node) => node._tag === "NotificationEvent")
  checkTopics(events)
  const versions = events.flatMap(versionsOf)
  const schemas = jsonSchemas(versions.map(({ schema }) => schema))
  const keys = identifiers(
    new Set([...events.flatMap(({ name, topic }) => [topic, name]), ...versions.map(({ name }) => name)]),
    toKey
  )
  return {
    asyncapi: "3.0.0",
    info: withoutUndefined<Info>(options.info),
    ...(options.servers !== undefined && {
      servers: toRecord(
        Object.entries(options.servers).map(([name, server]) => [name, withoutUndefined<Server>(server)])
      )
    }),
    channels: channels(keys, versions, schemas),
    operations: operations(graph, keys, options.group),
    components: { schemas: versions.length === 0 ? {} : schemas.components }
  }
}

// --- internal ---

const kafkaBinding = "0.5.0"

/** One version of an event: the current one, or one that `upcast` leads from. */
interface Version {
  readonly event: NotificationEvent.AnyClass
  readonly name: string
  readonly isOlder: boolean
  /** What the body holds. */
  readonly schema: Schema.Constraint
}

/** The versions that can be read, the current one first and then the newest. */
const versionsOf = ({ definition: event }: FlowGraph.NotificationEventNode): ReadonlyArray<Version> => {
  // The tag is in the type attribute and not in the body
  const { _tag: _, ...fields } = event.fields
  const steps = event.route.upcast?.steps ?? []
  return [
    {
      event,
      name: MessageCodec.typeOf(event),
      isOlder: false,
      schema: event.route.tombstone === undefined ? Schema.Struct(fields) : Schema.Null
    },
    ...steps.toReversed().map(({ schema, version }): Version => ({
      event,
      name: event.route.type(version),
      isOlder: true,
      schema
    }))
  ]
}

const checkTopics = (events: ReadonlyArray<FlowGraph.NotificationEventNode>): void => {
  const topics = new Map<string, string>()
  for (const { name, topic } of events) {
    const known = topics.get(name)
    if (known !== undefined && known !== topic) {
      throw new Error(`AsyncApi: two notification events are called "${name}", on topics "${known}" and "${topic}"`)
    }
    topics.set(name, topic)
  }
}

/**
 * The official parser refuses a channel whose key has "?" or "#", loses what is
 * under a key with "%", drops "__proto__", and takes "$ref" for a reference.
 */
const toKey = (name: string): string =>
  name.replace(/[?#%]|^\$(?=ref$)|^_(?=_proto__$)/g, (character) => `_${character.charCodeAt(0).toString(16)}_`)

const isAddress = (topic: string): boolean => !/[?#{}]/.test(topic)

const channels = (
  keys: ReadonlyMap<string, string>,
  versions: ReadonlyArray<Version>,
  { attributes, payloads }: ReturnType<typeof jsonSchemas>
): AsyncApi["channels"] => {
  const topics = new Map<string, Map<string, Message>>()
  for (const [i, { event, isOlder, name }] of versions.entries()) {
    const topic = event.route.topic
    const messages = topics.get(topic) ?? new Map<string, Message>()
    topics.set(topic, messages)
    const message: Message = {
      name,
      ...(isOlder && { summary: `An older version of ${event.tag}` }),
      contentType: "application/json",
      correlationId: { location: "$message.header#/correlationid" },
      headers: { allOf: [attributes, { type: "object", properties: { type: { type: "string", const: name } } }] },
      payload: payloads[i]!,
      ...(event.route.key !== undefined && {
        bindings: { kafka: { key: { type: "string" }, bindingVersion: kafkaBinding } }
      })
    }
    const known = messages.get(name)
    if (known === undefined) messages.set(name, message)
    else if (!Equal.equals(known.payload, message.payload)) {
      throw new Error(`AsyncApi: two definitions of "${name}" on topic "${topic}" have different fields`)
    }
  }
  return toRecord(
    Array.from(topics, ([topic, messages]) => [
      keys.get(topic)!,
      {
        ...(isAddress(topic) ? { address: topic } : { address: null, title: topic }),
        messages: toRecord(Array.from(messages, ([name, message]) => [keys.get(name)!, message]))
      }
    ])
  )
}

const operations = (
  graph: FlowGraph.FlowGraph,
  keys: ReadonlyMap<string, string>,
  group: string | undefined
): AsyncApi["operations"] => {
  const found = new Map<string, Operation>()
  for (const action of ["send", "receive"] as const) {
    for (const node of graph.nodes) {
      if (node._tag !== "NotificationEvent") continue
      const users = graph.edges.flatMap(({ from, kind, to }) =>
        action === "send" && kind === "Emits" && to === node
          ? [from.name]
          : action === "receive" && kind === "ConsumedBy" && from === node
          ? [to.name]
          : []
      )
      if (users.length === 0) continue
      const channel = ["channels", keys.get(node.topic)!]
      const id = `${action}${keys.get(node.name)}`
      const known = found.get(id)
      const own = versionsOf(node).filter(({ isOlder }) => action === "receive" || !isOlder).map(({ name }) => name)
      found.set(id, {
        action,
        channel: reference(...channel),
        summary: known === undefined
          ? `${action === "send" ? "Emitted" : "Handled"} by ${users.join(", ")}`
          : `${known.summary}, ${users.join(", ")}`,
        messages: union(
          known?.messages ?? [],
          own.map((name) => reference(...channel, "messages", keys.get(name)!))
        ),
        ...(action === "receive" && group !== undefined && {
          bindings: { kafka: { groupId: { type: "string", const: group }, bindingVersion: kafkaBinding } }
        })
      })
    }
  }
  return toRecord(found)
}

const reference = (...path: ReadonlyArray<string>): Reference => ({ $ref: JsonPointer.formatUriFragment(path) })

const union = (left: ReadonlyArray<Reference>, right: ReadonlyArray<Reference>): ReadonlyArray<Reference> => [
  ...left,
  ...right.filter(({ $ref }) => left.every((known) => known.$ref !== $ref))
]

const toRecord = <A>(entries: Iterable<readonly [string, A]>): Readonly<Record<string, A>> =>
  Object.fromEntries(entries)

const withoutUndefined = <A extends object>(value: { readonly [K in keyof A]: A[K] | undefined }): A =>
  // The members are those of `A`, and none that is left is undefined
  Object.fromEntries(Object.entries(value).filter(([, member]) => member !== undefined)) as A
