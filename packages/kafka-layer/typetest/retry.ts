/** What the types of `KafkaRetry` promise. Checked by `tsc`, never run. */
// @effect-diagnostics missingEffectContext:off
import {
  type Broker,
  ConsumerPolicy,
  EventConsumer,
  EventHandler,
  type Inbox,
  MemoryBroker,
  NotificationEvent,
  type Settings,
  type Subscriber
} from "@event-flow/core"

import { type KafkaHealth, KafkaRetry, KafkaSubscriber } from "@event-flow/kafka-layer"
import { Layer, Schedule } from "effect"
import { check, type Equals, type ErrorOf, type ProvidedBy, type ServicesOf } from "../../core/typetest/support.ts"

class News extends NotificationEvent.Class<News>()("News", {}, { topic: "news" }) {}
const Handle = EventHandler.make("Handle", { on: News })
const retry = KafkaRetry.make({ group: "g", delays: ["1 second"], inPlace: Schedule.recurs(2) })

// --- a retry ---

// @ts-expect-error: without a delay there is nothing to retry
KafkaRetry.make({ group: "g", delays: [] })
// @ts-expect-error: no duration
KafkaRetry.make({ group: "g", delays: ["soon"] })
// @ts-expect-error: whose?
KafkaRetry.make({ delays: ["1 second"] })
const later = ConsumerPolicy.postpone({ topic: "t", step: 1, delay: 1 })
// @ts-expect-error: in the end is an end
KafkaRetry.make({ group: "g", delays: ["1 second"], otherwise: later })
KafkaRetry.make({ group: "g", delays: ["1 second"], otherwise: ConsumerPolicy.skip })
// @ts-expect-error: only `make` makes one
const forged: KafkaRetry.KafkaRetry = { group: "g", delays: retry.delays, topicsOf: retry.topicsOf }

// --- its consumer ---

// @ts-expect-error: the retry says which group
KafkaRetry.layer(retry, [Handle], { group: "another" })
// @ts-expect-error: a policy is made from that of the retry, or nothing would be retried
KafkaRetry.layer(retry, [Handle], { policy: ConsumerPolicy.defaultPolicy })
KafkaRetry.layer(retry, [Handle], { policy: ConsumerPolicy.ignoreUnknownTypes })

type Needs = EventHandler.EventHandlerImplementation<"Handle"> | Broker.Broker

const consumer = KafkaRetry.layer(retry, [Handle])
check<Equals<ProvidedBy<typeof consumer>, EventConsumer.EventConsumer>>()
check<Equals<ErrorOf<typeof consumer>, EventConsumer.StartError>>()
check<Equals<ServicesOf<typeof consumer>, Needs | KafkaRetry.RetrySubscriber>>()

const deduping = KafkaRetry.layer(retry, [Handle], { dedupe: true })
check<Equals<ServicesOf<typeof deduping>, Needs | KafkaRetry.RetrySubscriber | Inbox.Inbox>>()

const running = KafkaRetry.run(retry, [Handle], { concurrency: 2 })
check<Equals<ErrorOf<typeof running>, EventConsumer.StartError | EventConsumer.ConsumerError>>()
check<Equals<ServicesOf<typeof running>, Needs | KafkaRetry.RetrySubscriber>>()

const dedupingRun = KafkaRetry.run(retry, [Handle], { dedupe: true })
check<Equals<ServicesOf<typeof dedupingRun>, Needs | KafkaRetry.RetrySubscriber | Inbox.Inbox>>()

// --- and the subscriber that it needs ---

const kafka = KafkaSubscriber.layer({ bootstrapServers: ["127.0.0.1:9092"] })
check<
  Equals<ProvidedBy<typeof kafka>, Subscriber.Subscriber | KafkaHealth.KafkaHealth | KafkaRetry.RetrySubscriber>
>()
check<Equals<ErrorOf<typeof kafka>, Settings.InvalidSetting>>()

const onKafka = consumer.pipe(Layer.provide(kafka))
check<Equals<ServicesOf<typeof onKafka>, Needs>>()

// One that knows no retry topics is not enough
const onMemory = consumer.pipe(Layer.provide(MemoryBroker.layer()))
check<Equals<ServicesOf<typeof onMemory>, Exclude<Needs, Broker.Broker> | KafkaRetry.RetrySubscriber>>()

// @ts-expect-error: nobody reads retry topics there
EventConsumer.layer([Handle], { group: "g", policy: retry.policy })

export const unused = forged
