/**
 * Publishes notification events: encodes them and hands them to the broker.
 */
import type * as Arr from "effect/Array"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import type * as Broker from "../../Broker.ts"
import type { FlowObserver } from "../../FlowObserver.ts"
import type { Message } from "../../Message.ts"
import * as MessageCodec from "../../MessageCodec.ts"
import type * as NotificationEvent from "../../NotificationEvent.ts"
import { classOf } from "../../NotificationEvent.ts"
import * as Telemetry from "../../Telemetry.ts"
import { isDone } from "../isDone.ts"
import * as Record from "../telemetry/record.ts"
import { isTracing } from "../telemetry/span.ts"
import { CurrentFlow } from "./flow.ts"
import { FiberMessageContext } from "./messageContext.ts"
import { nothing, reporting } from "./reporting.ts"
import type { EmitterWay } from "./ways.ts"

type Events = Arr.NonEmptyReadonlyArray<NotificationEvent.Any>
type Publishing = Effect.Effect<void, Broker.BrokerNotFound | Broker.PublishError>

/** Publishing as the service offers it, and in the dispatch of our processor. */
export interface Publish {
  readonly publish: (events: Events) => Publishing
  readonly inDispatch: EmitterWay["publish"]
}

/** Reads the codec, the observers and what to record when it is made. */
export const makePublish = Effect.fnUntraced(function*(broker: Broker.Broker["Service"]) {
  const codec = yield* MessageCodec.MessageCodec
  const telemetry = yield* Telemetry.Settings

  const encodeAll = (
    events: Events,
    context: MessageCodec.MessageContext
  ): Effect.Effect<Arr.NonEmptyReadonlyArray<Message>, Broker.PublishError> =>
    Effect.forEach(events, (event) => codec.encode(event, context))

  const send = (
    events: Events,
    messages: Arr.NonEmptyReadonlyArray<Message>,
    context: Context.Context<never>
  ): Publishing => publishObserved(broker, Context.get(context, CurrentFlow)?.watching?.observer, { events, messages })

  const encodeAndSend = (events: Events, context: Context.Context<never>): Publishing => {
    const messageContext = new FiberMessageContext(context)
    if (events.length > 1) {
      return Effect.flatMap(encodeAll(events, messageContext), (messages) => send(events, messages, context))
    }
    const encoded = codec.encode(events[0], messageContext)
    // The default codec is done at once
    return isDone(encoded)
      ? send(events, [encoded.value], context)
      : Effect.flatMap(encoded, (message) => send(events, [message], context))
  }

  const publish = (events: Events): Publishing =>
    Effect.withFiber((fiber) => {
      const tracing = isTracing(fiber)
      if (!tracing && !telemetry.metrics) return encodeAndSend(events, fiber.context)
      const topics = new Set(events.map((event) => classOf(event).route.topic))
      return Record.publish(Effect.withFiber((fiber) => encodeAndSend(events, fiber.context)), {
        system: broker.name,
        topic: Array.from(topics).join(","),
        count: events.length,
        tracing,
        metrics: telemetry.metrics
      })
    })

  const inDispatch: EmitterWay["publish"] = (dispatch, events, report, next) => {
    const { fiber, flow } = dispatch
    fiber.setContext(flow.context)
    const publishing = telemetry.metrics || isTracing(fiber)
      ? publish(events)
      : encodeAndSend(events, flow.context)
    return report === undefined
      ? Effect.flatMap(publishing, () => next(nothing))
      : Effect.flatMap(reporting(Effect.as(publishing, nothing), report), next)
  }

  return { publish, inDispatch } satisfies Publish
})

/** Hands messages to a broker, and tells an observer. */
export const publishObserved = (
  broker: Broker.Broker["Service"],
  observer: FlowObserver | undefined,
  { delivery, events, messages }: {
    readonly events: ReadonlyArray<NotificationEvent.Any>
    readonly messages: Arr.NonEmptyReadonlyArray<Message>
    readonly delivery?: object | undefined
  }
): Publishing => {
  if (observer === undefined) return broker.publish(messages)
  observer.published(events, messages, delivery)
  return Effect.onExit(
    broker.publish(messages),
    (exit) => Effect.sync(() => observer.publishEnded(messages, exit))
  )
}
