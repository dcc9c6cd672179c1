/**
 * Mistakes that are easily made with this package, and what to write instead: `scripts/agents.ts` makes AGENTS.md of them.
 */
// @effect-diagnostics *:off
import { Command, DomainEvent, EventConsumer, EventFlow, EventHandler, Inbox } from "@event-flow/core"
import { Mediator, MemoryBroker, NotificationEvent, Resilience, Upcast } from "@event-flow/core"
import { Tracker } from "@event-flow/core/testing"
import { Context, Effect, Layer, Schedule, Schema } from "effect"

class Declined extends Schema.TaggedError<Declined>()("Declined", { order: Schema.String }) {}
class Paid extends DomainEvent.Class<Paid>()("Paid", { order: Schema.String }) {}
class Shipped extends NotificationEvent.Class<Shipped>()("Shipped", { order: Schema.String }, {
  topic: "orders",
  key: (event) => event.order
}) {}

class Mails extends Context.Service<Mails, { readonly send: (text: string) => Effect.Effect<void> }>()("Mails") {}

class Pay extends Command.Class<Pay>()("Pay", {
  payload: { order: Schema.String },
  success: Schema.Boolean,
  error: Declined,
  emits: [Paid]
}) {}
const Ship = EventHandler.make("Ship", { on: Paid, emits: [Shipped] })
const Thank = EventHandler.make("Thank", { on: Shipped })

class Shop extends EventFlow.make("Shop", { commands: [Pay], handlers: [Ship, Thank] }) {}

const PayLive = Pay.toLayer(({ order }, { collect }) => Effect.as(collect(new Paid({ order })), true))
const ShipLive = Ship.toLayer(({ order }, { collect }) => collect(new Shipped({ order })))
const ThankLive = Thank.toLayer(() => Effect.void)
const ShopLive = Shop.layer().pipe(Layer.provide([PayLive, ShipLive]), Layer.provideMerge(MemoryBroker.layer()))

// # Run what `collect` gives: an Effect that is built and not run collects nothing
// The types see nothing wrong. `npx @effect/tsgo setup` makes it an error of `tsc`.
// Wrong:
{
  Pay.toLayer(Effect.fnUntraced(function*({ order }, { collect }) {
    collect(new Paid({ order }))
    return true
  }))
}
// Instead:
{
  Pay.toLayer(Effect.fnUntraced(function*({ order }, { collect }) {
    yield* collect(new Paid({ order }))
    return true
  }))
}

// # Declare a failure that the sender should handle, and fail with it
// What is not declared can only be a defect, and a defect is a bug: no policy and no retry handles it.
// Wrong:
{
  // @ts-expect-error Error is not in `error`
  Pay.toLayer(() => Effect.fail(new Error("declined")))
  Pay.toLayer(() => Effect.die("declined"))
}
// Instead:
{
  Pay.toLayer(({ order }) => Effect.fail(new Declined({ order })))
}

// # Provide implementations to the flow, not beside it
// The layer of a flow requires an implementation of each command and handler that it lists. A layer that stands beside it gives
// it nothing.
// Wrong:
{
  const Main = Layer.mergeAll(Shop.layer(), PayLive, ShipLive, MemoryBroker.layer())
  // @ts-expect-error CommandImplementation<"Pay">, EventHandlerImplementation<"Ship"> and Broker are required
  Effect.runPromise(Mediator.send(new Pay({ order: "7" })).pipe(Effect.provide(Main)))
}
// Instead:
{
  const Main = Shop.layer().pipe(Layer.provide([PayLive, ShipLive, MemoryBroker.layer()]))
  Effect.runPromise(Mediator.send(new Pay({ order: "7" })).pipe(Effect.provide(Main)))
}

// # Build the layer of a flow once, at the edge of the program
// A flow that is provided to each send is built and closed for each send: with its broker, its consumers and its state.
// Wrong:
{
  const pay = (order: string) => Effect.provide(Mediator.send(new Pay({ order })), ShopLive)
  Effect.runPromise(Effect.forEach(["7", "8"], pay))
}
// Instead:
{
  const pay = (order: string) => Mediator.send(new Pay({ order }))
  Effect.runPromise(Effect.forEach(["7", "8"], pay).pipe(Effect.provide(ShopLive)))
}

// # List the services that a handler asks for while it runs
// Its layer requires them then, and the handler finds those of its layer, whoever sends.
// Wrong:
{
  // @ts-expect-error Mails is not listed
  Thank.toLayer(() => Mails.use((mails) => mails.send("Thank you")))
}
// Instead:
{
  Thank.toLayer([Mails], () => Mails.use((mails) => mails.send("Thank you")))
  // Or take the service when the layer is built
  Thank.toLayer(Effect.map(Mails, (mails) => () => mails.send("Thank you")))
}

// # Say which commands a handler sends
// The flow gives the handler those commands and no others, and finds cycles in them. A class that is defined later is listed by
// its tag.
// Wrong:
{
  const PayAgain = EventHandler.make("PayAgain", { on: Shipped })
  // @ts-expect-error CommandFlow<"Pay"> is not among what the handler may ask for
  PayAgain.toLayer(({ order }) => Effect.ignore(Mediator.send(new Pay({ order }))))
}
// Instead:
{
  const PayAgain = EventHandler.make("PayAgain", { on: Shipped, sends: [Pay] })
  PayAgain.toLayer(({ order }) => Effect.ignore(Mediator.send(new Pay({ order }))))
}

// # Consume notification events with an EventConsumer, and notice when it ends
// A flow publishes notification events. Their handlers run in a consumer, in this program or in another one. A consumer that ends
// by itself, say because a topic was deleted, does not end the program: `join` does.
// Wrong:
{
  // Thank never runs
  Effect.runPromise(Mediator.send(new Pay({ order: "7" })).pipe(Effect.provide(ShopLive)))
}
// Instead:
{
  const Thanks = EventConsumer.layer(Shop, { group: "thanks", dedupe: true }).pipe(
    Layer.provide([ThankLive, Inbox.layerMemory()]),
    Layer.provideMerge(ShopLive)
  )
  const main = Mediator.send(new Pay({ order: "7" })).pipe(
    Effect.andThen(EventConsumer.EventConsumer.use((consumer) => consumer.join))
  )
  Effect.runPromise(Effect.provide(main, Thanks))
}

// # Give a changed notification event a version, and say how the old one becomes the new one
// Messages of the old version are in the broker already, and other programs go on publishing them.
// Wrong:
{
  class Delivered extends NotificationEvent.Class<Delivered>()("Delivered", {
    order: Schema.String,
    // This was `hours`
    minutes: Schema.Int
  }, { topic: "deliveries" }) {}
}
// Instead:
{
  class Delivered extends NotificationEvent.Class<Delivered>()("Delivered", {
    order: Schema.String,
    minutes: Schema.Int
  }, {
    topic: "deliveries",
    version: 2,
    upcast: Upcast.from(Schema.Struct({ order: Schema.String, hours: Schema.Number }))
      .toCurrent(({ order, hours }) => ({ order, minutes: Math.round(hours * 60) }))
  }) {}
}

// # Retry the handler that failed, not the command
// A send fails too when a handler of its events failed, after the command itself took effect: sent again, it takes effect twice.
// Wrong:
{
  Mediator.send(new Pay({ order: "7" })).pipe(Effect.retry({ times: 3 }))
}
// Instead:
{
  const Notify = EventHandler.make("Notify", { on: Paid, error: Declined })
  Notify.toLayer(Resilience.retry(({ order }) => Effect.fail(new Declined({ order })), {
    schedule: Schedule.exponential("50 millis").pipe(Schedule.upTo({ times: 3 }))
  }))
}

// # Wait for a flow to end in tests, without a sleep
// `Tracker.run` ends when everything is done that the effect set off, consumers included.
// Wrong:
{
  const test = Effect.andThen(Mediator.send(new Pay({ order: "7" })), Effect.sleep("1 second"))
}
// Instead:
{
  const test = Tracker.run(Mediator.send(new Pay({ order: "7" })))
  Effect.runPromise(Effect.provide(test, Layer.provideMerge(ShopLive, Tracker.layer)))
}
