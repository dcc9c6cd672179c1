/** A consumer of orders, between a subscriber that does what a test says and a broker that keeps what is published. */
import {
  Broker,
  DomainEvent,
  EventConsumer,
  EventEmitter,
  EventFlow,
  EventHandler,
  EventMap,
  type EventProcessor,
  Message,
  NotificationEvent
} from "@event-flow/core"
import { Cause, Context, Effect, Exit, Layer, Schema } from "effect"
import { adjust, Boom, open, RecordingBroker, RecordingLogger } from "../fixtures.ts"
import { FakeSubscriber } from "./fakeSubscriber.ts"

export class Bang extends Schema.TaggedError<Bang>()("Bang", {}) {}

export class Ordered extends NotificationEvent.Class<Ordered>()("Ordered", { n: Schema.Int }, {
  topic: "orders",
  key: ({ n }) => `key ${n}`
}) {}
export class Counted extends DomainEvent.Class<Counted>()("Counted", { n: Schema.Int }) {}
export class Shipped extends NotificationEvent.Class<Shipped>()("Shipped", { n: Schema.Int }, { topic: "shipments" }) {}

export const OnOrdered = EventHandler.make("OnOrdered", {
  on: Ordered,
  emits: [Counted, Shipped],
  error: Schema.Union([Boom, Bang])
})
export const OnCounted = EventHandler.make("OnCounted", { on: Counted, emits: [Shipped] })

export type Handle = EventHandler.HandlerFunction<Ordered, Boom | Bang, Counted | Shipped, never>

export class Orders extends EventFlow.make("Orders", { handlers: [OnOrdered, OnCounted] }) {}

/** The flow of orders with its handlers; without a broker. */
export const ordersFlow = (handle: Handle, options?: EventProcessor.Options) =>
  Orders.layer(options).pipe(
    Layer.provideMerge(Layer.merge(
      OnOrdered.toLayer(handle),
      OnCounted.toLayer(({ n }, { collect }) => collect(new Shipped({ n })))
    ))
  )

/** A consumer of orders; without the ports, and unless a test says so without `outage`, so that the policy is asked at once. */
export const consumer = (handle: Handle, options: Partial<EventConsumer.Options<false>> = {}) =>
  EventConsumer.layer(Orders, { group: "group", outage: false, ...options }).pipe(Layer.provide(ordersFlow(handle)))

/** Publishes orders, as another program would. */
export const publishOrders = (...orders: readonly [Ordered, ...ReadonlyArray<Ordered>]) =>
  EventEmitter.EventEmitter.use(({ publish }) => publish(orders)).pipe(
    Effect.provide(EventEmitter.layer.pipe(Layer.fresh, Layer.provide(EventMap.layer([]))))
  )

export const encode = (value: unknown): Uint8Array => new TextEncoder().encode(JSON.stringify(value))

/** The order `n` on the wire; its id is `n`. */
export const order = (n: number, message: Partial<Message.Message> = {}): Message.Message =>
  Message.make({
    topic: "orders",
    key: `key ${n}`,
    body: encode({ n }),
    ...message,
    attributes: { id: String(n), type: "Ordered.v1", ...message.attributes }
  })

export interface SetupOptions extends Partial<EventConsumer.Options<false>> {
  /** What the broker does with dead letters and follow-ups; default: takes them. */
  readonly publish?: ConstructorParameters<typeof RecordingBroker>[0]
}

/** A running consumer between a fake subscriber and a recording broker. */
export const setup = ({ publish, ...options }: SetupOptions, handle: Handle) =>
  Effect.gen(function*() {
    const subscriber = new FakeSubscriber()
    const broker = new RecordingBroker(publish)
    const logger = new RecordingLogger()
    const { close, context } = yield* open(
      consumer(handle, options).pipe(
        Layer.provide([subscriber.layer, broker.layer]),
        Layer.provideMerge(logger.layer)
      )
    )
    const { join, state, topics } = Context.get(context, EventConsumer.EventConsumer)
    const { deliver, log } = subscriber
    return { broker, close, deliver, join, log, logger, state, subscriber, topics }
  })

/** Everything runs until it waits for time to pass. */
export const settled = adjust(0)

/** Fails so many times for each order, then succeeds. */
export const failing = (times: number, error: Boom | Bang = new Boom({ id: "1" })): Handle => {
  const attempts = new Map<number, number>()
  return ({ n }) => {
    attempts.set(n, (attempts.get(n) ?? 0) + 1)
    return attempts.get(n)! <= times ? Effect.fail(error) : Effect.void
  }
}

export const text = (headers: Message.Message["headers"] | undefined, name: string): string => String(headers?.[name])

export const squashed = <E>(exit: Exit.Exit<unknown, E>): unknown =>
  Exit.isFailure(exit) ? Cause.squash(exit.cause) : exit

export const publishError = (reason: Broker.PublishReason): Broker.PublishError =>
  new Broker.PublishError({ topic: "orders.dead-letter", messageType: "Ordered.v1", reason })
