/**
 * The second program: counts orders by customer and by product, and shows prices, from what the shop announces. Several
 * instances of it share the work.
 */
import { Broker, ConsumerPolicy, EventConsumer, EventHandler } from "@event-flow/core"
import { Inbox, Store } from "@event-flow/simulation"
import { Effect, Layer } from "effect"
import {
  CustomerTotals,
  noTotals,
  OrderCancelled,
  OrderPaid,
  OrderPlaced,
  PriceChanged,
  ProductTotals,
  ShownPrices,
  type Totals
} from "./domain.ts"

const error = Store.StoreError

export const CountPlaced = EventHandler.make("CountPlaced", { on: OrderPlaced, error })
export const CountPaid = EventHandler.make("CountPaid", { on: OrderPaid, error })
export const CountCancelled = EventHandler.make("CountCancelled", { on: OrderCancelled, error })
const ShowPrice = EventHandler.make("ShowPrice", { on: PriceChanged, error })

interface Counted {
  readonly customer: string
  readonly product: string
}

/** How one order is counted. */
export type Count = (event: Counted, field: keyof Totals) => Effect.Effect<void, Store.StoreError, Store.Store>

export const oneMore = (field: keyof Totals) => (totals: Totals = noTotals): Totals => ({
  ...totals,
  [field]: totals[field] + 1
})

const count: Count = Effect.fn("count")(function*({ customer, product }, field) {
  yield* CustomerTotals.update(customer, oneMore(field))
  yield* ProductTotals.update(product, oneMore(field))
})

const ShowPriceLive = ShowPrice.toLayer([Store.Store], ({ price, product }) => ShownPrices.put(product, price))

/** Totals that miss an order stay wrong: what cannot be counted stops the consumer, unacknowledged. */
const policy: ConsumerPolicy.ConsumerPolicy = (failure) =>
  failure._tag === "HandlerFailed"
    ? ConsumerPolicy.retry(ConsumerPolicy.defaultSchedule, ConsumerPolicy.stop)
    : ConsumerPolicy.stop

/** What the totals are made of. `count` is made anew for each process. */
export const parts = {
  count: (): Count => count,
  policy,
  dedupe: true,
  inbox: Inbox.layer
}

export const totals = ({ count, dedupe, inbox, policy }: typeof parts) => {
  const Counting = Layer.unwrap(Effect.sync(() => {
    const countOne = count()
    return Layer.mergeAll(
      CountPlaced.toLayer([Store.Store], (event) => countOne(event, "placed")),
      CountPaid.toLayer([Store.Store], (event) => countOne(event, "paid")),
      CountCancelled.toLayer([Store.Store], (event) => countOne(event, "cancelled"))
    )
  }))
  return EventConsumer.layer([CountPlaced, CountPaid, CountCancelled, ShowPrice], {
    group: "totals",
    concurrency: 3,
    dedupe,
    policy
  }).pipe(Layer.provide([Counting, ShowPriceLive, inbox, Broker.layerNone]))
}
