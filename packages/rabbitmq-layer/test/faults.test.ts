/** What must not lose a message. Each test reports: sent, handled, duplicated, lost. */
import { assert, it } from "@effect/vitest"
import * as Broker from "@event-flow/core/Broker"
import * as EventConsumer from "@event-flow/core/EventConsumer"
import * as EventHandler from "@event-flow/core/EventHandler"
import * as Health from "@event-flow/core/Health"
import * as NotificationEvent from "@event-flow/core/NotificationEvent"
import * as Subscriber from "@event-flow/core/Subscriber"
import { RabbitTopology } from "@event-flow/rabbitmq-layer"
import { type Background, inBackground, watched } from "@event-flow/test-support/background"
import { startProgram } from "@event-flow/test-support/program"
import { startProxy } from "@event-flow/test-support/proxy"
import { Effect, Fiber, Layer, Schedule, Schema, type Scope } from "effect"
import { join } from "node:path"
import { afterAll, beforeAll } from "vitest"
import {
  ensureQueue,
  eventually,
  layers,
  message,
  numbers,
  type OwnServer,
  rawChannel,
  silently,
  startOwn,
  textOf,
  unique,
  withOwnServer
} from "./support/rabbit.ts"

/** What was sent (the caller was told so), and what was handled, with repetitions. */
interface Account {
  readonly sent: Array<string>
  readonly handled: Array<string>
}

/** The frame of AMQP 0-9-1 that says that a connection is alive. */
const heartbeat = Buffer.from([8, 0, 0, 0, 0, 0, 0, 0xce])

const settle = (fault: string, { handled, sent }: Account) => {
  const unique = new Set(handled)
  const lost = sent.filter((text) => !unique.has(text))
  const counts = `${sent.length} sent, ${unique.size} handled, ${handled.length - unique.size} duplicated`
  console.info(`${fault}: ${counts}, ${lost.length} lost`)
  assert.deepStrictEqual(lost, [], fault)
}

/** Publishes until the broker has taken each: what is not known is sent again under the same id. */
const send = (topic: string, texts: ReadonlyArray<string>, sent: Array<string>) =>
  Effect.flatMap(
    Broker.Broker,
    ({ publish }) =>
      Effect.forEach(texts, (text) =>
        publish([message(topic, text, `key-${Number(text) % 10}`)]).pipe(
          Effect.retry({
            schedule: Schedule.spaced("100 millis"),
            while: (error) => error._tag === "PublishError" && error.isRetryable
          }),
          Effect.andThen(Effect.sync(() => sent.push(text)))
        ), { concurrency: 50, discard: true })
  )

/** Handles whatever comes, for as long as the scope is open. */
const handle = (topic: string, handled: Array<string>, each: Effect.Effect<void> = Effect.void) =>
  Effect.gen(function*() {
    const subscriber = yield* Subscriber.Subscriber
    const subscription = yield* subscriber.subscribe({ topics: [topic], group: "group", maxInFlight: 100 })
    const loop = Effect.gen(function*() {
      for (const delivery of yield* subscription.take) {
        if (delivery.isRevoked()) continue
        yield* each
        handled.push(textOf(delivery.message))
        yield* delivery.ack
      }
    })
    return yield* inBackground(Effect.forever(loop))
  })

const all = (account: Account) =>
  eventually("every message to be handled", () => {
    const handled = new Set(account.handled)
    return account.sent.every((text) => handled.has(text))
  })

/** Publishes and consumes before, during and after a fault. */
const throughout = Effect.fnUntraced(function*(topic: string, account: Account, fault: Effect.Effect<void>) {
  let next = 0
  let isOver = false
  yield* handle(topic, account.handled, Effect.sleep("1 millis"))
  const publisher = Effect.suspend(() => send(topic, [String(next++)], account.sent)).pipe(
    Effect.delay("15 millis"),
    Effect.repeat({ until: () => isOver })
  )
  const publishing = yield* inBackground(Effect.all(Array.from({ length: 20 }, () => publisher), {
    concurrency: "unbounded",
    discard: true
  }))
  yield* eventually("a part to be handled", () => account.handled.length > 500)
  yield* fault
  const before = account.sent.length
  yield* eventually("publishing to go on", () => account.sent.length > before + 200)
  isOver = true
  yield* Fiber.join(publishing)
  yield* all(account)
})

/** `it.live` that fails when what it does in the background fails. */
const live = <E>(name: string, test: () => Effect.Effect<void, E, Background | Scope.Scope>): void =>
  it.live(name, () => watched(test()))

withOwnServer("faults", () => {
  let server: OwnServer
  beforeAll(async () => {
    server = await startOwn()
  })
  afterAll(() => server?.dispose())
  const ports = (options: Parameters<typeof layers>[0] = {}) =>
    Layer.suspend(() => layers({ url: server.url, publishTimeout: "1 minute", ...options }))

  for (const kind of ["stop", "kill"] as const) {
    const fault = kind === "stop" ? "the server is restarted" : "the server is killed (SIGKILL) and started again"
    live(`${fault}, while messages are published and consumed`, () =>
      Effect.gen(function*() {
        const account: Account = { sent: [], handled: [] }
        const restart = Effect.promise(async () => {
          // RabbitMQ writes what it knows of new quorum queues to disk within seconds. Killed before, it comes back with
          // queues that answer nobody, the bare client neither
          await server.control.ctl("eval", "[dets:sync(Table) || Table <- dets:all()].")
          await server.control[kind]()
          await server.control.start()
        })
        yield* throughout(unique("topic"), account, restart)
        settle(fault, account)
      }).pipe(Effect.scoped, Effect.provide(ports())))
  }

  live("a consumer process is killed (SIGKILL) mid-batch, and another takes over", () =>
    Effect.gen(function*() {
      const topic = unique("topic")
      const account: Account = { sent: [], handled: [] }
      yield* ensureQueue(topic, server.url)
      yield* send(topic, numbers(1_000), account.sent)
      const file = join(import.meta.dirname, "support/consumerProcess.ts")
      const child = yield* startProgram(file, [server.url, topic], (line) => account.handled.push(line))
      yield* eventually("the process to handle some", () => account.handled.length > 200)
      yield* child.kill
      assert.isBelow(account.handled.length, 1_000)
      yield* handle(topic, account.handled)
      yield* all(account)
      settle("a consumer is killed (SIGKILL) mid-batch, another takes over", account)
    }).pipe(Effect.scoped, Effect.provide(ports())))

  live("a handler is slower than the heartbeat", () =>
    Effect.gen(function*() {
      const topic = unique("topic")
      const account: Account = { sent: [], handled: [] }
      // One a second of each connection, which is lost after two seconds without
      let heartbeats = 0
      const proxy = yield* Effect.acquireRelease(
        Effect.promise(() => startProxy(server.url, (data) => heartbeats += data.equals(heartbeat) ? 1 : 0)),
        (proxy) => Effect.promise(proxy.close)
      )
      yield* Effect.gen(function*() {
        const fiber = yield* handle(
          topic,
          account.handled,
          Effect.suspend(() =>
            account.handled.length === 0 ? eventually("ten heartbeats", () => heartbeats >= 10) : Effect.void
          )
        )
        yield* send(topic, numbers(100), account.sent)
        yield* all(account)
        assert.isUndefined(fiber.pollUnsafe())
      }).pipe(Effect.scoped, Effect.provide(ports({ url: proxy.url })))
      settle(`a handler takes ${heartbeats} heartbeats`, account)
      assert.lengthOf(account.handled, 100)
    }).pipe(Effect.scoped))

  live("the network stalls, in silence, while messages are published and consumed", () =>
    Effect.gen(function*() {
      const topic = unique("topic")
      const account: Account = { sent: [], handled: [] }
      const proxy = yield* Effect.acquireRelease(
        Effect.promise(() => startProxy(server.url)),
        (proxy) => Effect.promise(proxy.close)
      )
      const stall = Effect.gen(function*() {
        proxy.stall()
        yield* eventually(
          "the client to notice",
          Effect.map(Health.all, (all) => all.length === 2 && all.every(({ state }) => state === "disconnected"))
        )
        yield* eventually(
          "the server to notice",
          async () => !(await server.control.ctl("list_connections", "state")).includes("running")
        )
        proxy.resume()
      })
      yield* throughout(topic, account, stall).pipe(
        Effect.scoped,
        Effect.provide(
          Layer.provideMerge(
            ports({ url: proxy.url, connectTimeout: "1 second", drainTimeout: "1 second" }),
            Health.layer
          )
        )
      )
      settle("the network stalls until both sides have noticed", account)
    }).pipe(Effect.scoped))

  live("poison messages among good ones", () =>
    Effect.gen(function*() {
      const topic = unique("topic")
      const account: Account = { sent: [], handled: [] }
      class Note extends NotificationEvent.Class<Note>()("Note", { n: Schema.Int }, {
        topic,
        key: ({ n }) => `key-${n % 10}`
      }) {}
      const Handle = EventHandler.make("Handle", { on: Note })
      const consumer = EventConsumer.layer([Handle], { group: "group", concurrency: 4 }).pipe(
        Layer.provide(Handle.toLayer(({ n }) =>
          n % 100 === 1 ? Effect.die(new Error("poison")) : Effect.sync(() => {
            account.handled.push(String(n))
          })
        )),
        Layer.provide(silently)
      )
      yield* Layer.build(Layer.provide(consumer, ports()))
      const { publish } = yield* Broker.Broker
      yield* Effect.forEach(numbers(500), (n) => {
        const note = message(topic, Number(n) % 100 === 0 ? "no JSON" : `{"n":${n}}`, `key-${Number(n) % 10}`)
        account.sent.push(n)
        return publish([{ ...note, attributes: { ...note.attributes, type: "Note.v1" } }])
      }, { concurrency: 50, discard: true })
      // Five that cannot be decoded, five that kill their handler
      const channel = yield* rawChannel(server.url)
      const dead: Array<string> = []
      yield* Effect.promise(() =>
        channel.consume(RabbitTopology.deadLetterTopic(topic), (message) => {
          dead.push(String(message?.properties.headers?.["dead-letter-reason"]))
          account.handled.push(`dead ${dead.length}`)
        }, { noAck: true })
      )
      yield* eventually("every message to be handled or dead-lettered", () => account.handled.length >= 500)
      assert.deepStrictEqual(dead.toSorted(), [
        ...Array<string>(5).fill("HandlerDied"),
        ...Array<string>(5).fill("Undecodable")
      ])
      const good = account.sent.filter((n) => Number(n) % 100 > 1)
      settle("10 poison messages among 500 (dead-lettered: 10)", { sent: good, handled: account.handled })
      assert.lengthOf(account.handled, 500)
    }).pipe(Effect.scoped, Effect.provide(ports({ heartbeat: "10 seconds" }))))
})
