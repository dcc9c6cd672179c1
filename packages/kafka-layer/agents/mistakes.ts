/**
 * Mistakes that are easily made with this package, and what to write instead: `scripts/agents.ts` makes AGENTS.md of them.
 */
// @effect-diagnostics *:off
import { ConsumerPolicy, EventConsumer, EventHandler, Inbox, NotificationEvent } from "@event-flow/core"
import { KafkaBroker, KafkaRetry, KafkaSubscriber, KafkaTopics } from "@event-flow/kafka-layer"
import { Config, Effect, Layer, Schedule, Schema } from "effect"

class Booked extends NotificationEvent.Class<Booked>()("Booked", { room: Schema.String, guest: Schema.String }, {
  topic: "bookings",
  key: (event) => event.room
}) {}
const Mail = EventHandler.make("Mail", { on: Booked, error: Schema.String })
const MailLive = Mail.toLayer(() => Effect.fail("the mail server is down"))

const connection = { bootstrapServers: ["127.0.0.1:9092"] }
const KafkaLive = Layer.merge(KafkaBroker.layer(connection), KafkaSubscriber.layer(connection))

// # Give a consumer a broker as well: it publishes dead letters
// Wrong:
{
  const Mails = EventConsumer.layer([Mail], { group: "mails" }).pipe(
    Layer.provide([MailLive, KafkaSubscriber.layer(connection)])
  )
  // @ts-expect-error Broker is required
  Effect.runPromise(Layer.launch(Mails))
}
// Instead:
{
  const Mails = EventConsumer.layer([Mail], { group: "mails" }).pipe(
    Layer.provide([MailLive, KafkaBroker.layer(connection), KafkaSubscriber.layer(connection)])
  )
  Effect.runPromise(Layer.launch(Mails))
}

// # Notice when a consumer ends
// A consumer that ends by itself, say because its topic was deleted, logs that and leaves the rest of the program running.
// Wrong:
{
  const Mails = EventConsumer.layer([Mail], { group: "mails" }).pipe(Layer.provide([MailLive, KafkaLive]))
  Effect.runPromise(Layer.launch(Mails))
}
// Instead:
{
  const Mails = EventConsumer.layer([Mail], { group: "mails" }).pipe(Layer.provide([MailLive, KafkaLive]))
  // Fails with the reason, and so ends the program
  const main = EventConsumer.EventConsumer.use((consumer) => consumer.join)
  Effect.runPromise(Effect.provide(main, Mails))
}

// # Create topics before anything publishes or subscribes
// Brokers are not asked to create topics: a missing one is UnknownTopic. With `createTopics` they choose partitions and retention.
// Wrong:
{
  const Broker = KafkaBroker.layer({ ...connection, createTopics: true })
}
// Instead:
{
  const Topics = Layer.effectDiscard(
    KafkaTopics.KafkaTopics.use((topics) =>
      topics.ensure(KafkaTopics.specs([Booked], { partitions: 12, retention: "7 days" }))
    )
  ).pipe(Layer.provide(KafkaTopics.layer(connection)))
  const Broker = KafkaBroker.layer(connection).pipe(Layer.provide(Topics))
}

// # Give events that need an order a key
// Order holds for a key. Messages without a key go to one partition after another.
// Wrong:
{
  class RoomCleaned extends NotificationEvent.Class<RoomCleaned>()("RoomCleaned", { room: Schema.String }, {
    topic: "rooms"
  }) {}
}
// Instead:
{
  class RoomCleaned extends NotificationEvent.Class<RoomCleaned>()("RoomCleaned", { room: Schema.String }, {
    topic: "rooms",
    key: (event) => event.room
  }) {}
}

// # Expect a message twice
// Delivery is at least once. `dedupe` drops a message that has been handled, by its id.
// Wrong:
{
  const Mails = EventConsumer.layer([Mail], { group: "mails" }).pipe(Layer.provide([MailLive, KafkaLive]))
}
// Instead:
{
  // Inbox.layer of @event-flow/sql-layer remembers in a database what this one forgets when the program ends
  const Mails = EventConsumer.layer([Mail], { group: "mails", dedupe: true }).pipe(
    Layer.provide([MailLive, Inbox.layerMemory(), KafkaLive])
  )
}

// # Retry for seconds in place, for minutes through topics
// A policy that retries holds up the key, and a worker. A retry topic holds up nothing, and loses the order of the key.
// Wrong:
{
  const policy: ConsumerPolicy.ConsumerPolicy = () =>
    ConsumerPolicy.retry(Schedule.spaced("10 minutes").pipe(Schedule.upTo({ times: 6 })), ConsumerPolicy.deadLetter())
  const Mails = EventConsumer.layer([Mail], { group: "mails", policy }).pipe(Layer.provide([MailLive, KafkaLive]))
}
// Instead:
{
  const retry = KafkaRetry.make({ group: "mails", delays: ["10 minutes", "1 hour"] })
  const Mails = KafkaRetry.layer(retry, [Mail]).pipe(Layer.provide([MailLive, KafkaLive]))
}

// # Create the retry topics, too
// Subscribing fails where one is missing.
// Wrong:
{
  KafkaTopics.KafkaTopics.use((topics) => topics.ensure(KafkaTopics.specs([Booked], { partitions: 12 })))
}
// Instead:
{
  const retry = KafkaRetry.make({ group: "mails", delays: ["10 minutes", "1 hour"] })
  KafkaTopics.KafkaTopics.use((topics) =>
    topics.ensure([
      ...KafkaTopics.specs([Booked], { partitions: 12 }),
      ...KafkaRetry.specs(retry, [Booked], { partitions: 4, retention: "7 days" })
    ])
  )
}

// # Give each purpose a group of its own
// The members of a group share its messages: each message goes to one of them.
// Wrong:
{
  const Audit = EventHandler.make("Audit", { on: Booked })
  const Mails = EventConsumer.layer([Mail], { group: "hotel" })
  const Audits = EventConsumer.layer([Audit], { group: "hotel" })
}
// Instead:
{
  const Audit = EventHandler.make("Audit", { on: Booked })
  const Mails = EventConsumer.layer([Mail], { group: "mails" })
  const Audits = EventConsumer.layer([Audit], { group: "audits" })
}

// # Say what happens to other types of a shared topic
// By default a type of event that a consumer does not handle is dead-lettered.
// Wrong:
{
  const Mails = EventConsumer.layer([Mail], { group: "mails" })
}
// Instead:
{
  const Mails = EventConsumer.layer([Mail], { group: "mails", policy: ConsumerPolicy.ignoreUnknownTypes() })
}

// # Let the layers read the environment
// They check what they read, keep secrets redacted, and name the setting that is wrong. Variables are in the README.
// Wrong:
{
  const Broker = KafkaBroker.layer({
    // @ts-expect-error a list of addresses, not one text
    bootstrapServers: process.env["KAFKA_BOOTSTRAP_SERVERS"] ?? ""
  })
}
// Instead:
{
  const Broker = KafkaBroker.layerFromEnv
  // Or from variables of your own
  const Own = KafkaBroker.layerConfig({ bootstrapServers: Config.Array(Schema.String, "SERVERS") })
}
