/** A small system: a shop announces orders through the outbox, and two processes count them, each once. */
import { Command, EventConsumer, EventFlow, EventHandler, Mediator, NotificationEvent } from "@event-flow/core"
import { Client, Inbox, Invariant, Outbox, Scenario, Store, Transactional } from "@event-flow/simulation"
import { Effect, Layer, Schedule, Schema } from "effect"

export const Orders = Store.table<string>("orders")
export const Counts = Store.table<number>("counts")

export class OrderPlaced extends NotificationEvent.Class<OrderPlaced>()("OrderPlaced", { customer: Schema.String }, {
  topic: "orders",
  key: (event) => event.customer
}) {}
export class PlaceOrder extends Command.Class<PlaceOrder>()("PlaceOrder", {
  payload: { order: Schema.String, customer: Schema.String },
  error: Store.StoreError,
  emits: [OrderPlaced],
  middleware: [Transactional.make()]
}) {}
export const Count = EventHandler.make("Count", { on: OrderPlaced, error: Store.StoreError })
class Shop extends EventFlow.make("Shop", { commands: [PlaceOrder] }) {}

const PlaceOrderLive = PlaceOrder.toLayer(
  [Store.Store],
  Effect.fnUntraced(function*({ customer, order }, { collect }) {
    if (yield* Orders.insert(order, customer)) yield* collect(new OrderPlaced({ customer }))
  })
)
export const ShopLive = Shop.layer().pipe(
  Layer.provide([PlaceOrderLive, Outbox.layer]),
  Layer.merge(Outbox.relay())
)

export const addOne = ({ customer }: OrderPlaced) => Counts.update(customer, (n = 0) => n + 1)

/** The counting program, with a handler of the test's own. */
export const counting = (
  handle: (event: OrderPlaced) => Effect.Effect<unknown, Store.StoreError, Store.Store> = addOne,
  options: { readonly dedupe?: boolean } = {}
) =>
  EventConsumer.layer([Count], { group: "counts", dedupe: options.dedupe ?? true }).pipe(
    Layer.provide(Count.toLayer([Store.Store], handle)),
    Layer.provide(Inbox.layer)
  )

export const place = (order: string, customer: string) =>
  Scenario.step(
    `place ${order}`,
    Client.call("shop", Mediator.send(new PlaceOrder({ order, customer }))).pipe(
      Effect.retry({ schedule: Schedule.spaced("200 millis"), times: 100 })
    )
  )

export const clients = { web: [place("1", "ann"), place("2", "ann")], phone: [place("3", "bob")] }

export const countedOnce: Invariant.Invariant = (view) =>
  Invariant.equal("counted", Invariant.sum(view.rows(Counts).values()), view.rows(Orders).size)

/** The whole, with another counting program. */
export const counts = (program: ReturnType<typeof counting> = counting()) =>
  Scenario.make({ shop: ShopLive, counts: { layer: program, instances: 2 } }, {
    clients,
    eventually: { "each order is counted once": countedOnce }
  })
