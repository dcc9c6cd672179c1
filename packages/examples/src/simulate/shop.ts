/**
 * The first program: the shop. Each command is one transaction, with what it announces in the outbox; a job cancels orders
 * that nobody has paid.
 */
import { type Broker, EventFlow, Mediator } from "@event-flow/core"
import { Outbox, Store } from "@event-flow/simulation"
import { Clock, Effect, Layer } from "effect"
import {
  ChangePrice,
  ExpireOrder,
  openingStock,
  OrderCancelled,
  OrderPaid,
  OrderPlaced,
  Orders,
  Paid,
  PayOrder,
  PlaceOrder,
  PriceChanged,
  Prices,
  Stock
} from "./domain.ts"

const PlaceOrderLive = PlaceOrder.toLayer(
  [Store.Store],
  Effect.fn("PlaceOrder")(function*({ customer, order, product, quantity }, { collect }) {
    const placedAt = yield* Clock.currentTimeMillis
    const isNew = yield* Orders.insert(order, { customer, product, quantity, state: "open", placedAt })
    // The client asks again when it has heard nothing
    if (!isNew) return
    yield* Stock.update(product, (left = openingStock) => left - quantity)
    yield* collect(new OrderPlaced({ order, customer, product, quantity }))
  })
)

const PayOrderLive = PayOrder.toLayer(
  [Store.Store],
  Effect.fn("PayOrder")(function*({ order }, { collect }) {
    const found = yield* Orders.lock(order)
    if (found?.state !== "open") return
    const { customer, product, quantity } = found
    yield* Paid.update(customer, (paid = 0) => paid + quantity)
    yield* Orders.put(order, { ...found, state: "paid" })
    yield* collect(new OrderPaid({ order, customer, product, quantity }))
  })
)

const ExpireOrderLive = ExpireOrder.toLayer(
  [Store.Store],
  Effect.fn("ExpireOrder")(function*({ order }, { collect }) {
    const found = yield* Orders.lock(order)
    if (found?.state !== "open") return
    const { customer, product, quantity } = found
    yield* Stock.update(product, (left = openingStock) => left + quantity)
    yield* Orders.put(order, { ...found, state: "cancelled" })
    yield* collect(new OrderCancelled({ order, customer, product, quantity }))
  })
)

const ChangePriceLive = ChangePrice.toLayer(
  [Store.Store],
  Effect.fn("ChangePrice")(function*({ price, product }, { collect }) {
    yield* Prices.put(product, price)
    yield* collect(new PriceChanged({ shelf: product, product, price }))
  })
)

class Shop extends EventFlow.make("Shop", { commands: [PlaceOrder, PayOrder, ExpireOrder, ChangePrice] }) {}

/** How long an order may stay unpaid, in milliseconds. */
const timeToPay = 1500

const Deadlines = Layer.effectDiscard(
  Effect.gen(function*() {
    yield* Effect.sleep("1 second")
    const now = yield* Clock.currentTimeMillis
    for (const [order, { placedAt, state }] of yield* Orders.all) {
      if (state === "open" && now - placedAt > timeToPay) yield* Mediator.send(new ExpireOrder({ order }))
    }
  }).pipe(Effect.ignore, Effect.forever, Effect.forkScoped)
)

/** What the shop is made of. */
export const parts = {
  placeOrder: PlaceOrderLive,
  payOrder: PayOrderLive,
  expireOrder: ExpireOrderLive,
  changePrice: ChangePriceLive,
  outbox: Outbox.layer as Layer.Layer<Broker.Broker, never, Store.Store | Broker.Broker>,
  relay: Outbox.relay()
}

export const shop = ({ changePrice, expireOrder, outbox, payOrder, placeOrder, relay }: typeof parts) =>
  Deadlines.pipe(
    Layer.provideMerge(Shop.layer({ source: "/shop" })),
    Layer.provide([placeOrder, payOrder, expireOrder, changePrice, outbox]),
    Layer.merge(relay)
  )
