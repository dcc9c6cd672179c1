/** What the tests against a server share. */
import * as Broker from "@event-flow/core/Broker"
import * as Message from "@event-flow/core/Message"
import type * as Subscriber from "@event-flow/core/Subscriber"
import { RabbitBroker, type RabbitConfig, RabbitSubscriber } from "@event-flow/rabbitmq-layer"
import { connect } from "amqplib"
import { Effect, Layer, References, Schedule } from "effect"
import { SecureRandom } from "effect/crypto"
import { describe, inject } from "vitest"
import { type Control, find, type RabbitServer, start } from "./rabbitServer.ts"

const rabbitmq = inject("rabbitmq")

/** Why the tests that need a server do not run, as a suffix of their group's name. */
const why = "reason" in rabbitmq ? ` (skipped: ${rabbitmq.reason})` : ""

export const url = "url" in rabbitmq ? rabbitmq.url : "amqp://127.0.0.1:1"

/** Tests that need a server. */
export const withServer = (name: string, tests: () => void): void => {
  describe.skipIf(why !== "")(name + why, tests)
}

/** Tests that stop and kill a server, or ask it to: they start their own. */
export const withOwnServer = (name: string, tests: () => void): void => {
  const reason = "isOurs" in rabbitmq && !rabbitmq.isOurs ? " (skipped: the server of RABBITMQ_URL is not ours)" : why
  describe.skipIf(reason !== "")(name + reason, tests)
}

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

export const unique = (name: string): string => `${name}-${SecureRandom.uuidV7Unsafe().slice(-12)}`

/** Quick to mend, so that tests need not wait. */
export const quick = { heartbeat: "1 second", reconnectDelay: "50 millis", maxReconnectDelay: "500 millis" } as const

/** Faults are logged as warnings, and tests make many. */
export const silently = Layer.succeed(References.MinimumLogLevel, "Error")

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

/** Waits for a condition, with a bound that a slow machine does not reach. */
export const eventually = (what: string, condition: () => boolean | Promise<boolean>) =>
  Effect.promise(async () => condition()).pipe(
    Effect.repeat({ schedule: Schedule.spaced("20 millis"), until: (ok) => ok }),
    Effect.timeoutOrElse({ duration: "60 seconds", orElse: () => Effect.die(new Error(`Waited in vain: ${what}`)) }),
    Effect.asVoid
  )
