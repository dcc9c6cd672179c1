/** What the types of `RabbitRetry` promise. Checked by `tsc`, never run. */
// @effect-diagnostics missingEffectContext:off floatingEffect:off
import {
  type Broker,
  ConsumerPolicy,
  type EventConsumer,
  type EventMap,
  type EventProcessor,
  type Inbox,
  type Mediator,
  MemoryBroker,
  type Settings,
  type Subscriber
} from "@event-flow/core"
import { RabbitRetry, RabbitSubscriber, RabbitTopology } from "@event-flow/rabbitmq-layer"
import { Layer, Schedule } from "effect"
import { check, type Equals, type ErrorOf, type ProvidedBy, type ServicesOf } from "../../core/typetest/support.ts"

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
RabbitRetry.layer(retry, { group: "another" })
// @ts-expect-error: a policy is made from that of the retry, or nothing would be retried
RabbitRetry.layer(retry, { policy: ConsumerPolicy.defaultPolicy })
RabbitRetry.layer(retry, { policy: ConsumerPolicy.ignoreUnknownTypes })
// @ts-expect-error: nobody would delete the queues of its retries
RabbitRetry.layer(retry, { ephemeral: true })

type Flow = EventProcessor.EventProcessor | EventMap.EventMap | Mediator.Mediator | Broker.Broker

const consumer = RabbitRetry.layer(retry)
check<Equals<ProvidedBy<typeof consumer>, EventConsumer.EventConsumer>>()
check<Equals<ErrorOf<typeof consumer>, Subscriber.SubscribeError | EventConsumer.NothingToConsume>>()
check<Equals<ServicesOf<typeof consumer>, Flow | RabbitRetry.RetrySubscriber>>()

const deduping = RabbitRetry.layer(retry, { dedupe: true })
check<Equals<ServicesOf<typeof deduping>, Flow | RabbitRetry.RetrySubscriber | Inbox.Inbox>>()

const running = RabbitRetry.run(retry, { concurrency: 2 })
check<Equals<ErrorOf<typeof running>, EventConsumer.ConsumerError | EventConsumer.NothingToConsume>>()
check<Equals<ServicesOf<typeof running>, Flow | RabbitRetry.RetrySubscriber>>()

// --- what it runs on ---

const layer = RabbitSubscriber.layer({ url: "amqp://localhost" })
check<Equals<ProvidedBy<typeof layer>, Subscriber.Subscriber | RabbitRetry.RetrySubscriber>>()
check<Equals<ErrorOf<typeof layer>, Settings.InvalidSetting>>()
const onRabbit = consumer.pipe(Layer.provide(layer))
check<Equals<ServicesOf<typeof onRabbit>, Flow>>()
// A subscriber that declares no queues for retries will not do
const onMemory = consumer.pipe(Layer.provide(MemoryBroker.layer()))
check<Equals<ServicesOf<typeof onMemory>, Exclude<Flow, Broker.Broker> | RabbitRetry.RetrySubscriber>>()

// --- its queues ---

RabbitTopology.RabbitTopology.use(({ ensure }) => ensure(RabbitRetry.specs(retry, ["topic"])))
// @ts-expect-error: the queues of a group are asked for by specs
RabbitTopology.RabbitTopology.use(({ ensure }) => ensure(retry))
