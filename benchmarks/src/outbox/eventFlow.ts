/** The outbox, its relay and `Transactional`, with their default settings. */
import { Broker, Command, EventFlow, Mediator, Message, NotificationEvent } from "@event-flow/core"
import { Migrations, Outbox, OutboxRelay, Transactional } from "@event-flow/sql-layer"
import { Deferred, Effect, Layer, Schema } from "effect"
import { SqlClient } from "effect/sql"
import { makeAccounts } from "./account.ts"
import type { Lag, Task } from "./work.ts"
import { accounts, begun, clientLayer, commandsPerSecond, Counter, main, now, topic, work } from "./work.ts"

const tables = Effect.andThen(Migrations.run, makeAccounts)

const fill = (task: Extract<Task, { readonly role: "fill" }>) =>
  Effect.gen(function*() {
    yield* tables
    const broker = yield* Broker.Broker
    for (let i = 0; i < task.rows; i += 500) {
      const messages = Array.from({ length: Math.min(500, task.rows - i) }, (_, at) => Message.make(work(i + at)))
      yield* broker.publish(messages as [Message.Message])
    }
  }).pipe(
    Effect.provide(
      Outbox.layer({ allowOutsideTransaction: true, notify: false }).pipe(Layer.provideMerge(clientLayer(task.url, 2)))
    )
  )

/** A broker that acknowledges at once. */
const brokerOf = (onPublish: (messages: ReadonlyArray<Message.Message>) => void): Layer.Layer<Broker.Broker> =>
  Layer.succeed(Broker.Broker)({
    name: "nothing",
    publish: (messages) => Effect.sync(() => onPublish(messages))
  })

const relay = (task: Extract<Task, { readonly role: "relay" }>) => {
  const counter = new Counter(task.check)
  const broker = brokerOf((messages) =>
    counter.add(messages.length, () => messages.map((message) => message.attributes["id"]))
  )
  const live = OutboxRelay.layer().pipe(Layer.provide(broker))
  return Effect.gen(function*() {
    // Connected beforehand
    yield* (yield* SqlClient.SqlClient)`SELECT 1`
    yield* begun
    yield* Layer.build(live)
    return yield* Effect.never
  }).pipe(Effect.scoped, Effect.provide(clientLayer(task.url, 3)))
}

class Deposited extends NotificationEvent.Class<Deposited>()("Deposited", {
  account: Schema.Number,
  amount: Schema.Number,
  padding: Schema.String
}, { topic, key: ({ account }) => String(account) }) {}

class Deposit extends Command.Class<Deposit>()("Deposit", {
  payload: { account: Schema.Number, amount: Schema.Number },
  emits: [Deposited],
  middleware: [Transactional.make()]
}) {}

class Bank extends EventFlow.make("Bank", { commands: [Deposit] }) {}

const padding = "x".repeat(200)

const DepositLive = Deposit.toLayer(Effect.gen(function*() {
  const sql = yield* SqlClient.SqlClient
  return Effect.fnUntraced(function*({ account, amount }, { collect }) {
    yield* Effect.orDie(sql`UPDATE account SET balance = balance + ${amount} WHERE id = ${account}`)
    yield* collect(new Deposited({ account, amount, padding }))
  })
}))

const command = (task: Extract<Task, { readonly role: "command" }>) =>
  Effect.gen(function*() {
    yield* tables
    return yield* commandsPerSecond(task, (i) => Mediator.send(new Deposit({ account: i % accounts, amount: 1 })))
  }).pipe(
    Effect.provide(
      Bank.layer().pipe(
        Layer.provide(DepositLive),
        Layer.provide(Outbox.layer()),
        Layer.provideMerge(clientLayer(task.url, 10))
      )
    )
  )

const lag = (task: Extract<Task, { readonly role: "lag" }>): Effect.Effect<Lag, unknown> => {
  const publishedAt = new Map<string, Deferred.Deferred<number>>()
  const onPublished = (id: string, at: number) => {
    const deferred = publishedAt.get(id)
    if (deferred !== undefined) Deferred.doneUnsafe(deferred, Effect.succeed(at))
  }
  process.on("message", ({ at, numbers }: { readonly at: number; readonly numbers: ReadonlyArray<number> }) => {
    for (const number of numbers ?? []) onPublished(`id-${number}`, at)
  })
  const live = OutboxRelay.layer().pipe(Layer.provide(brokerOf((messages) => {
    const at = now()
    for (const message of messages) onPublished(message.attributes["id"]!, at)
  })))
  const lags: Array<number> = []
  return Effect.gen(function*() {
    yield* tables
    const sql = yield* SqlClient.SqlClient
    const outbox = yield* Broker.Broker
    if (task.relays) yield* Layer.build(live)
    yield* begun
    for (let i = 0; i < task.warmUp + task.count; i++) {
      const message = Message.make(work(i))
      const published = Deferred.makeUnsafe<number>()
      publishedAt.set(message.attributes["id"]!, published)
      yield* sql.withTransaction(outbox.publish([message]))
      const committed = now()
      const at = yield* Deferred.await(published)
      publishedAt.delete(message.attributes["id"]!)
      if (i >= task.warmUp) lags.push(at - committed)
      // Idle again: the next notification need not wait for the pause after this one
      yield* Effect.sleep(12)
    }
    lags.sort((a, b) => a - b)
    const at = (share: number) => Number(lags[Math.ceil(lags.length * share) - 1]!.toFixed(2))
    return { p50Millis: at(0.5), p99Millis: at(0.99), maxMillis: at(1) }
  }).pipe(Effect.scoped, Effect.provide(Outbox.layer().pipe(Layer.provideMerge(clientLayer(task.url, 5)))))
}

main({ fill, relay, command, lag })
