/**
 * Mistakes that are easily made with this package, and what to write instead: `scripts/agents.ts` makes AGENTS.md of them.
 */
// @effect-diagnostics *:off
import { ConsumerPolicy, EventConsumer, EventHandler, Inbox, NotificationEvent } from "@event-flow/core"
import { RabbitBroker, RabbitRetry, RabbitSubscriber, RabbitTopology } from "@event-flow/rabbitmq-layer"
import { Config, Effect, Layer, Redacted, Schedule, Schema } from "effect"

class Booked extends NotificationEvent.Class<Booked>()("Booked", { room: Schema.String, guest: Schema.String }, {
  topic: "bookings",
  key: (event) => event.room
}) {}
const Mail = EventHandler.make("Mail", { on: Booked, error: Schema.String })
const MailLive = Mail.toLayer(() => Effect.fail("the mail server is down"))

const connection = { url: "amqp://guest:guest@127.0.0.1:5672" }
const RabbitLive = Layer.merge(RabbitBroker.layer(connection), RabbitSubscriber.layer(connection))

// # Give a consumer a broker as well: it publishes dead letters
// Wrong:
{
  const Mails = EventConsumer.layer([Mail], { group: "mails" }).pipe(
    Layer.provide([MailLive, RabbitSubscriber.layer(connection)])
  )
  // @ts-expect-error Broker is required
  Effect.runPromise(Layer.launch(Mails))
}
// Instead:
{
  const Mails = EventConsumer.layer([Mail], { group: "mails" }).pipe(
    Layer.provide([MailLive, RabbitBroker.layer(connection), RabbitSubscriber.layer(connection)])
  )
  Effect.runPromise(Layer.launch(Mails))
}

// # Notice when a consumer ends
// A consumer that ends by itself, say because its queue is of another kind, logs that and leaves the rest of the program running.
// Wrong:
{
  const Mails = EventConsumer.layer([Mail], { group: "mails" }).pipe(Layer.provide([MailLive, RabbitLive]))
  Effect.runPromise(Layer.launch(Mails))
}
// Instead:
{
  const Mails = EventConsumer.layer([Mail], { group: "mails" }).pipe(Layer.provide([MailLive, RabbitLive]))
  // Fails with the reason, and so ends the program
  const main = EventConsumer.EventConsumer.use((consumer) => consumer.join)
  Effect.runPromise(Effect.provide(main, Mails))
}

// # Make the queues before the first message is published
// A topic keeps nothing. A message that no queue is bound for fails with UnknownTopic, so a publisher that starts first needs the
// queues of its consumers.
// Wrong:
{
  const Broker = RabbitBroker.layer(connection)
}
// Instead:
{
  const Queues = Layer.effectDiscard(
    RabbitTopology.RabbitTopology.use((topology) => topology.ensure(RabbitTopology.specs("mails", ["bookings"])))
  ).pipe(Layer.provide(RabbitTopology.layer(connection)))
  const Broker = RabbitBroker.layer(connection).pipe(Layer.provide(Queues))
}

// # Ask for one active consumer where order matters
// Several programs of a group get the messages of a queue in turns, whatever their keys.
// Wrong:
{
  const Subscriber = RabbitSubscriber.layer(connection)
}
// Instead:
{
  const Subscriber = RabbitSubscriber.layer({ ...connection, singleActiveConsumer: true })
}

// # Expect a message twice
// Delivery is at least once. `dedupe` drops a message that has been handled, by its id.
// Wrong:
{
  const Mails = EventConsumer.layer([Mail], { group: "mails" }).pipe(Layer.provide([MailLive, RabbitLive]))
}
// Instead:
{
  // Inbox.layer of @event-flow/sql-layer remembers in a database what this one forgets when the program ends
  const Mails = EventConsumer.layer([Mail], { group: "mails", dedupe: true }).pipe(
    Layer.provide([MailLive, Inbox.layerMemory(), RabbitLive])
  )
}

// # Retry for seconds in place, for minutes through queues
// A policy that retries holds up the key, and a worker. A queue of a delay holds up nothing, and loses the order of the key.
// Wrong:
{
  const policy: ConsumerPolicy.ConsumerPolicy = () =>
    ConsumerPolicy.retry(Schedule.spaced("10 minutes").pipe(Schedule.upTo({ times: 6 })), ConsumerPolicy.deadLetter())
  const Mails = EventConsumer.layer([Mail], { group: "mails", policy }).pipe(Layer.provide([MailLive, RabbitLive]))
}
// Instead:
{
  const retry = RabbitRetry.make({ group: "mails", delays: ["10 minutes", "1 hour"] })
  const Mails = RabbitRetry.layer(retry, [Mail]).pipe(Layer.provide([MailLive, RabbitLive]))
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

// # Percent-encode what is in the URL, or keep user and password out of it
// Wrong:
{
  const Broker = RabbitBroker.layer({ url: "amqp://shop:p@ss/word@127.0.0.1:5672/orders" })
}
// Instead:
{
  const Broker = RabbitBroker.layer({ url: "amqp://shop:p%40ss%2Fword@127.0.0.1:5672/orders" })
  const Apart = RabbitBroker.layer({
    url: "amqp://127.0.0.1:5672/orders",
    username: "shop",
    password: Redacted.make("p@ss/word")
  })
}

// # Let the layers read the environment
// They check what they read, keep secrets redacted, and name the setting that is wrong. Variables are in the README.
// Wrong:
{
  const Broker = RabbitBroker.layer({ url: process.env["RABBITMQ_URL"] ?? "" })
}
// Instead:
{
  const Broker = RabbitBroker.layerFromEnv
  // Or from variables of your own
  const Own = RabbitBroker.layerConfig({ url: Config.Redacted("BROKER") })
}
