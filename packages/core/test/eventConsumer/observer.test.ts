/** What an observer, the tracer and the metrics are told of a delivery and of what is put aside for it. */
import { assert, describe, it } from "@effect/vitest"
import {
  Broker,
  ConsumerPolicy,
  EventConsumer,
  FlowObserver,
  Inbox,
  type Message,
  type Subscriber,
  Telemetry
} from "@event-flow/core"
import { Expect, Tracker } from "@event-flow/core/testing"
import { Cause, Effect, Exit, Layer, Metric, Schedule } from "effect"
import { TestClock } from "effect/testing"
import { adjust, Boom, open, RecordingBroker, RecordingLogger } from "../fixtures.ts"
import { FakeSubscriber } from "./fakeSubscriber.ts"
import { consumer, encode, type Handle, order, Ordered, Orders, ordersFlow, publishOrders, settled } from "./support.ts"

interface Options extends Partial<EventConsumer.Options<true>> {
  readonly publish?: ConstructorParameters<typeof RecordingBroker>[0]
  readonly telemetry?: Layer.Layer<never>
}

/** An observed consumer of orders, and what its observer is told. */
const observed = ({ publish, telemetry, ...options }: Options, handle: Handle) =>
  Effect.gen(function*() {
    const subscriber = new FakeSubscriber()
    const ended: Array<readonly [outcome: FlowObserver.DeliveryOutcome, info: FlowObserver.DeliveryInfo]> = []
    const published: Array<readonly [topic: string, events: number, id: string | undefined]> = []
    const publishEnded: Array<readonly [topic: string, succeeded: boolean]> = []
    const observer = FlowObserver.make({
      deliveryEnded: (_, outcome, info) => void ended.push([outcome, info]),
      published: (events, messages, delivery) => {
        for (const { topic } of messages) {
          published.push([topic, events.length, idOf(delivery as Subscriber.Delivery | undefined)])
        }
      },
      publishEnded: (messages, exit) => {
        for (const { topic } of messages) publishEnded.push([topic, Exit.isSuccess(exit)])
      }
    })
    const { close } = yield* open(
      EventConsumer.layer(Orders, { group: "group", dedupe: true, ...options }).pipe(
        Layer.provide(ordersFlow(handle)),
        Layer.provide([
          subscriber.layer,
          new RecordingBroker(publish).layer,
          Inbox.layerMemory(),
          FlowObserver.layer(observer),
          telemetry ?? Layer.empty,
          new RecordingLogger().layer
        ])
      )
    )
    return { close, deliver: subscriber.deliver, ended, published, publishEnded, subscriber }
  })

const idOf = (delivery: { readonly message: Message.Message } | undefined) => delivery?.message.attributes["id"]

const boom: Handle = ({ n }) => Effect.fail(new Boom({ id: String(n) }))

const none = { cause: undefined, decision: undefined, topic: undefined, due: undefined }

const reasonOf = ({ cause }: FlowObserver.DeliveryInfo): string => String(cause && Cause.squash(cause))

describe("an observer is told how a delivery came to its outcome", () => {
  it.effect("handled, at once or after retries, and a duplicate: there is no reason to tell", () =>
    Effect.gen(function*() {
      let failures = 2
      const { deliver, ended } = yield* observed(
        { policy: () => ConsumerPolicy.retry(Schedule.recurs(5)) },
        ({ n }) => n === 2 && failures-- > 0 ? boom({ n } as never, undefined as never) : Effect.void
      )
      yield* deliver(order(1), order(2), order(1))
      yield* settled
      assert.deepStrictEqual(ended, [
        ["handled", { ...none, attempts: 1 }],
        ["handled", { ...none, attempts: 3 }],
        ["duplicate", { ...none, attempts: 1 }]
      ])
    }))

  it.effect("skipped and ignored: the failure and the decision", () =>
    Effect.gen(function*() {
      const { deliver, ended } = yield* observed(
        { policy: (failure) => failure._tag === "Undecodable" ? ConsumerPolicy.ignore : ConsumerPolicy.skip },
        boom
      )
      yield* deliver(order(1), order(2, { body: encode(null) }))
      yield* settled
      assert.deepStrictEqual(ended.map(([outcome, { attempts, decision }]) => [outcome, attempts, decision]), [
        ["skipped", 1, "Skip"],
        ["skipped", 1, "Ignore"]
      ])
      assert.include(reasonOf(ended[0]![1]), "boom 1")
      assert.include(reasonOf(ended[1]![1]), "InvalidBody")
    }))

  it.effect("dead-lettered and postponed: where to, and until when", () =>
    Effect.gen(function*() {
      yield* TestClock.setTime(1_000)
      const { deliver, ended } = yield* observed(
        {
          policy: (failure) =>
            failure._tag === "HandlerDied"
              ? ConsumerPolicy.retry(
                Schedule.recurs(1),
                ConsumerPolicy.postpone({ topic: "later", step: 1, delay: "5 seconds" })
              )
              : ConsumerPolicy.deadLetter()
        },
        ({ n }, context) => n === 1 ? boom({ n } as never, context) : Effect.die("a bug")
      )
      yield* deliver(order(1), order(2))
      yield* settled
      assert.deepStrictEqual(ended.map(([outcome, info]) => [outcome, { ...info, cause: undefined }]), [
        ["dead_lettered", { ...none, attempts: 1, decision: "DeadLetter", topic: "orders.dead-letter" }],
        ["postponed", { ...none, attempts: 2, decision: "Postpone", topic: "later", due: 6_000 }]
      ])
      assert.include(reasonOf(ended[0]![1]), "boom 1")
      assert.include(reasonOf(ended[1]![1]), "a bug")
    }))

  it.effect("returned: by a decision, by a broker that takes no dead letter, while it waited for a retry, while it ran", () =>
    Effect.gen(function*() {
      const stopped = yield* observed({ policy: () => ConsumerPolicy.stop }, boom)
      yield* stopped.deliver(order(1))
      yield* settled

      const refused = yield* observed({
        policy: () => ConsumerPolicy.deadLetter("dead"),
        publish: () => Effect.fail(new Broker.BrokerNotFound({ topic: "dead", event: "Ordered.v1" }))
      }, boom)
      yield* refused.deliver(order(1))
      yield* settled

      const waiting = yield* observed({ policy: () => ConsumerPolicy.retry(Schedule.spaced(10)) }, boom)
      yield* waiting.deliver(order(1))
      yield* settled
      yield* waiting.subscriber.revokeSilently(() => true)
      yield* adjust(10)

      const running = yield* observed({}, () => Effect.never)
      yield* running.deliver(order(1))
      yield* settled
      yield* running.subscriber.revoke(() => true)

      const all = [stopped, refused, waiting, running].map(({ ended }) => ended)
      assert.deepStrictEqual(
        all.map((ended) =>
          ended.map(([outcome, { attempts, decision, topic }]) => [outcome, attempts, decision, topic])
        ),
        [
          [["returned", 1, "Stop", undefined]],
          [["returned", 1, "DeadLetter", "dead"]],
          [["returned", 1, "Retry", undefined]],
          [["returned", 1, undefined, undefined]]
        ]
      )
      for (const [, info] of [stopped, refused, waiting].flatMap(({ ended }) => ended)) {
        assert.include(reasonOf(info), "boom 1")
      }
      assert.isTrue(Cause.hasInterruptsOnly(running.ended[0]![1].cause!))
    }))
})

describe("a message that is put aside", () => {
  it.effect("is published like any other, from the run of its delivery and without an event", () =>
    Effect.gen(function*() {
      let failures = 1
      const { deliver, published, publishEnded } = yield* observed(
        {
          publish: () =>
            failures-- > 0
              ? Effect.fail(
                new Broker.PublishError({
                  topic: "orders.dead-letter",
                  messageType: "Ordered.v1",
                  reason: new Broker.Timeout({ detail: "the test says so" })
                })
              )
              : Effect.void,
          policy: (failure) =>
            failure._tag === "Undecodable"
              ? ConsumerPolicy.postpone({ topic: "later", step: 1, delay: "5 seconds" })
              : ConsumerPolicy.deadLetter()
        },
        boom
      )
      yield* deliver(order(1), order(2, { body: encode(null) }))
      yield* adjust("1 second")
      assert.deepStrictEqual(published, [
        ["orders.dead-letter", 0, "1"],
        ["orders.dead-letter", 0, "1"],
        ["later", 0, "2"]
      ])
      assert.deepStrictEqual(publishEnded, [
        ["orders.dead-letter", false],
        ["orders.dead-letter", true],
        ["later", true]
      ])
    }))

  it.effect("is counted and timed like any other", () =>
    Effect.gen(function*() {
      const { deliver } = yield* observed(
        { telemetry: Telemetry.layer({ metrics: true }), policy: () => ConsumerPolicy.deadLetter() },
        boom
      )
      yield* deliver(order(1), order(2))
      yield* settled
      const snapshots = yield* Metric.snapshot
      assert.deepStrictEqual(
        snapshots.filter(({ attributes }) => attributes?.["messaging.operation.name"] === "publish").map((
          { attributes, id, state }
        ) => [id, attributes?.["messaging.destination.name"], (state as { readonly count: unknown }).count]).sort(),
        [
          ["messaging.client.operation.duration", "orders.dead-letter", 2],
          ["messaging.client.sent.messages", "orders.dead-letter", 2]
        ]
      )
    }).pipe(Effect.provideService(Metric.MetricRegistry, new Map())))

  it.effect("is a step of a tracked flow that came from the delivery, and no event that was published", () =>
    Effect.gen(function*() {
      const tracked = yield* Tracker.run(publishOrders(new Ordered({ n: 1 })))
      assert.deepStrictEqual(tracked.flow.messages.map(({ message, parent }) => [message.topic, parent?._tag]), [
        ["orders.dead-letter", "Delivery"]
      ])
      Expect.exactly(tracked.flow, { published: [], consumed: [Ordered] })
    }).pipe(Effect.provide(
      consumer(boom, { policy: () => ConsumerPolicy.deadLetter() }).pipe(
        Layer.provideMerge(Tracker.layerMemoryBroker()),
        Layer.provideMerge(new RecordingLogger().layer)
      )
    )))
})
