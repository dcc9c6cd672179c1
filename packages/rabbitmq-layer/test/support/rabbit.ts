/** What the tests against a server share. */
import * as Broker from "@event-flow/core/Broker"
import * as Message from "@event-flow/core/Message"
import type * as Subscriber from "@event-flow/core/Subscriber"
import { RabbitBroker, type RabbitConfig, RabbitSubscriber } from "@event-flow/rabbitmq-layer"
import { silently } from "@event-flow/test-support/effects"
import { type Control, find, type RabbitServer, start } from "@event-flow/test-support/rabbitServer"
import { serverTests } from "@event-flow/test-support/sharedServer"
import { connect } from "amqplib"
import { Effect, Layer } from "effect"
import { SecureRandom } from "effect/crypto"

export { eventually, silently, unique } from "@event-flow/test-support/effects"

const rabbitmq = serverTests("rabbitmq")

export const { withOwnServer, withServer } = rabbitmq

export const url = rabbitmq.address ?? "amqp://127.0.0.1:1"

export interface OwnServer extends RabbitServer {
  readonly control: Control
}

export const startOwn = async (): Promise<OwnServer> => {
  const found = await find()
  if (found._tag === "None") throw new Error(found.reason)
  const server = await start(found)
  if (server.control === undefined) throw new Error("the server of RABBITMQ_URL is not ours")
  return { ...server, control: server.control }
}

/** Quick to mend, so that tests need not wait. */
export const quick = { heartbeat: "1 second", reconnectDelay: "50 millis", maxReconnectDelay: "500 millis" } as const

export const layers = (
  options: Partial<RabbitConfig.Publisher & RabbitConfig.Consumer> = {}
): Layer.Layer<Broker.Broker | Subscriber.Subscriber, RabbitConfig.RabbitConfigError> =>
  Layer.merge(
    RabbitBroker.layer({ url, ...quick, ...options }),
    RabbitSubscriber.layer({ url, ...quick, ...options })
  ).pipe(Layer.provide(silently))

/** A channel of the bare client, to look at the server from outside. */
export const rawChannel = (server = url) =>
  Effect.acquireRelease(Effect.promise(() => connect(server)), (model) => Effect.promise(() => model.close())).pipe(
    Effect.flatMap((model) => Effect.promise(() => model.createConfirmChannel()))
  )

const encoder = new TextEncoder()
const decoder = new TextDecoder()

export const message = (topic: string, text: string, key?: string): Message.Message =>
  Message.make({
    topic,
    key,
    attributes: { specversion: "1.0", id: SecureRandom.uuidV7Unsafe(), type: "Test.v1", source: "/test" },
    body: encoder.encode(text)
  })

export const textOf = ({ body }: Message.Message): string => decoder.decode(body)

export const publish = (topic: string, texts: ReadonlyArray<string>, key?: string) =>
  Effect.flatMap(Broker.Broker, ({ publish }) => publish(texts.map((text) => message(topic, text, key)) as never))

export const numbers = (count: number, from = 0): ReadonlyArray<string> =>
  Array.from({ length: count }, (_, i) => String(from + i))
