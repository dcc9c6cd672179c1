/** What the types of `RabbitRetry` promise. Checked by `tsc`, never run. */
// @effect-diagnostics missingEffectContext:off floatingEffect:off
import {
  type Broker,
  ConsumerPolicy,
  type EventConsumer,
  EventHandler,
  type Inbox,
  MemoryBroker,
  NotificationEvent,
  type Settings,
  type Subscriber
} from "@event-flow/core"
import { type RabbitHealth, RabbitRetry, RabbitSubscriber, RabbitTopology } from "@event-flow/rabbitmq-layer"
import { Layer, Schedule } from "effect"
import { check, type Equals, type ErrorOf, type ProvidedBy, type ServicesOf } from "../../core/typetest/support.ts"

class News extends NotificationEvent.Class<News>()("News", {}, { topic: "news" }) {}
const Handle = EventHandler.make("Handle", { on: News })
const retry = RabbitRetry.make({ group: "g", delays: ["1 second"], inPlace: Schedule.recurs(2) })

// --- a retry ---

// @ts-expect-error: without a delay there is nothing to retry
RabbitRetry.make({ group: "g", delays: [] })
// @ts-expect-error: no duration
RabbitRetry.make({ group: "g", delays: ["soon"] })
// @ts-expect-error: the group is missing
RabbitRetry.make({ delays: ["1 second"] })
const later = ConsumerPolicy.postpone({ topic: "t", step: 1, delay: 1 })
// @ts-expect-error: after the last delay there is no other
RabbitRetry.make({ group: "g", delays: ["1 second"], otherwise: later })
RabbitRetry.make({ group: "g", delays: ["1 second"], otherwise: ConsumerPolicy.skip })

// --- its consumer ---

// @ts-expect-error: the retry says which group
RabbitRetry.layer(retry, [Handle], { group: "another" })
// @ts-expect-error: a policy is made from that of the retry, or nothing would be retried
RabbitRetry.layer(retry, [Handle], { policy: ConsumerPolicy.defaultPolicy })
RabbitRetry.layer(retry, [Handle], { policy: ConsumerPolicy.ignoreUnknownTypes })
// @ts-expect-error: nobody would delete the queues of its retries
RabbitRetry.layer(retry, [Handle], { ephemeral: true })

type Needs = EventHandler.EventHandlerImplementation<"Handle"> | Broker.Broker

const consumer = RabbitRetry.layer(retry, [Handle])
check<Equals<ProvidedBy<typeof consumer>, EventConsumer.EventConsumer>>()
check<Equals<ErrorOf<typeof consumer>, EventConsumer.StartError>>()
check<Equals<ServicesOf<typeof consumer>, Needs | RabbitRetry.RetrySubscriber>>()

const deduping = RabbitRetry.layer(retry, [Handle], { dedupe: true })
check<Equals<ServicesOf<typeof deduping>, Needs | RabbitRetry.RetrySubscriber | Inbox.Inbox>>()

const running = RabbitRetry.run(retry, [Handle], { concurrency: 2 })
check<Equals<ErrorOf<typeof running>, EventConsumer.ConsumerError | EventConsumer.StartError>>()
check<Equals<ServicesOf<typeof running>, Needs | RabbitRetry.RetrySubscriber>>()

// --- what it runs on ---

const layer = RabbitSubscriber.layer({ url: "amqp://localhost" })
check<
  Equals<ProvidedBy<typeof layer>, Subscriber.Subscriber | RabbitHealth.RabbitHealth | RabbitRetry.RetrySubscriber>
>()
check<Equals<ErrorOf<typeof layer>, Settings.InvalidSetting>>()
const onRabbit = consumer.pipe(Layer.provide(layer))
check<Equals<ServicesOf<typeof onRabbit>, Needs>>()
// A subscriber that declares no queues for retries will not do
const onMemory = consumer.pipe(Layer.provide(MemoryBroker.layer()))
check<Equals<ServicesOf<typeof onMemory>, Exclude<Needs, Broker.Broker> | RabbitRetry.RetrySubscriber>>()

// --- its queues ---

RabbitTopology.RabbitTopology.use(({ ensure }) => ensure(RabbitRetry.specs(retry, ["topic"])))
// @ts-expect-error: the queues of a group are asked for by specs
RabbitTopology.RabbitTopology.use(({ ensure }) => ensure(retry))
