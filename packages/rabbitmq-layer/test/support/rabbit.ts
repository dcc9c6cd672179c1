/** What the tests against a server share. */
import * as Broker from "@event-flow/core/Broker"
import type * as Settings from "@event-flow/core/Settings"
import { RabbitBroker, type RabbitConfig, RabbitSubscriber, RabbitTopology } from "@event-flow/rabbitmq-layer"
import { eventually, silently } from "@event-flow/test-support/effects"
import { type Control, find, type RabbitServer, start } from "@event-flow/test-support/rabbitServer"
import { serverTests } from "@event-flow/test-support/sharedServer"
import { connect } from "amqplib"
import { Effect, Layer } from "effect"

import { message } from "./messages.ts"

export { eventually, silently, unique } from "@event-flow/test-support/effects"
export * from "./messages.ts"

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
): Layer.Layer<Broker.Broker | RabbitSubscriber.Services, Settings.InvalidSetting> =>
  Layer.merge(
    RabbitBroker.layer({ url, ...quick, ...options }),
    RabbitSubscriber.layer({ url, ...quick, ...options })
  ).pipe(Layer.provide(silently))

/** Makes the queue of the group `group` for a topic. */
export const ensureQueue = (topic: string, server = url) =>
  RabbitTopology.RabbitTopology.use(({ ensure }) => ensure(RabbitTopology.specs("group", [topic]))).pipe(
    Effect.provide(RabbitTopology.layer({ url: server }))
  )

/** A channel of the bare client, to look at the server from outside. */
export const rawChannel = (server = url) =>
  Effect.acquireRelease(Effect.promise(() => connect(server)), (model) => Effect.promise(() => model.close())).pipe(
    Effect.flatMap((model) => Effect.promise(() => model.createConfirmChannel()))
  )

/** The next message of a queue, as the server has it. */
export const getRaw = (queue: string) =>
  Effect.gen(function*() {
    const channel = yield* rawChannel()
    let got: Awaited<ReturnType<typeof channel.get>> = false
    yield* eventually(`a message in ${queue}`, async () => {
      got = await channel.get(queue, { noAck: true })
      return got !== false
    })
    if (got === false) throw new Error("unreachable")
    return got as Exclude<Awaited<ReturnType<typeof channel.get>>, false>
  }).pipe(Effect.scoped)

export const publish = (topic: string, texts: ReadonlyArray<string>, key?: string) =>
  Effect.flatMap(Broker.Broker, ({ publish }) => publish(texts.map((text) => message(topic, text, key)) as never))
