/** Messages, and the outbox that takes them. */
import { Broker, Message } from "@event-flow/core"
import { Outbox } from "@event-flow/sql-layer"
import { type Array as Arr, Effect, Layer } from "effect"
import { SqlClient } from "effect/sql"
import { database } from "./orders.ts"

export const encoder = new TextEncoder()

export const message = (options: Partial<Parameters<typeof Message.make>[0]> = {}): Message.Message =>
  Message.make({ topic: "t", body: encoder.encode("body"), ...options })

export const publish = (...messages: Arr.NonEmptyReadonlyArray<Message.Message>) =>
  Broker.Broker.use((broker) => broker.publish(messages))

/** In a transaction. */
export const put = (...messages: Arr.NonEmptyReadonlyArray<Message.Message>) =>
  Effect.flatMap(SqlClient.SqlClient, (sql) => sql.withTransaction(publish(...messages)))

export const over = (options?: Outbox.Options) => Outbox.layer(options).pipe(Layer.provideMerge(database()))

export const bytesOrText = (value: string | Uint8Array | null | undefined) =>
  typeof value === "string" || value === undefined || value === null ? value : [...value]

/** For comparisons: bytes as arrays, whatever class they are of. */
export const plain = (message: Message.Message) => ({
  topic: message.topic,
  key: bytesOrText(message.key),
  attributes: { ...message.attributes },
  headers: Object.keys(message.headers).map((name) => [name, Message.headerValues(message, name).map(bytesOrText)]),
  body: message.body === null ? null : [...message.body]
})
