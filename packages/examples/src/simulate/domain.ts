/**
 * What the simulated shop talks about: its commands, its notification events, and its tables.
 */
import { Command, NotificationEvent } from "@event-flow/core"
import { Store, Transactional } from "@event-flow/simulation"
import { Schema } from "effect"

const orderFields = {
  order: Schema.String,
  customer: Schema.String,
  product: Schema.String,
  quantity: Schema.Int
}

const byCustomer = { topic: "orders", key: (event: { readonly customer: string }) => event.customer }

export class OrderPlaced extends NotificationEvent.Class<OrderPlaced>()("OrderPlaced", orderFields, byCustomer) {}
export class OrderPaid extends NotificationEvent.Class<OrderPaid>()("OrderPaid", orderFields, byCustomer) {}
export class OrderCancelled
  extends NotificationEvent.Class<OrderCancelled>()("OrderCancelled", orderFields, byCustomer)
{}

/** `shelf` is what keeps its order. */
export class PriceChanged extends NotificationEvent.Class<PriceChanged>()("PriceChanged", {
  shelf: Schema.String,
  product: Schema.String,
  price: Schema.Int
}, { topic: "prices", key: (event) => event.shelf }) {}

const middleware = [Transactional.make()] as const
const error = Store.StoreError

export class PlaceOrder extends Command.Class<PlaceOrder>()("PlaceOrder", {
  payload: orderFields,
  error,
  emits: [OrderPlaced],
  middleware
}) {}

export class PayOrder extends Command.Class<PayOrder>()("PayOrder", {
  payload: { order: Schema.String },
  error,
  emits: [OrderPaid],
  middleware
}) {}

/** The time to pay is over. */
export class ExpireOrder extends Command.Class<ExpireOrder>()("ExpireOrder", {
  payload: { order: Schema.String },
  error,
  emits: [OrderCancelled],
  middleware
}) {}

export class ChangePrice extends Command.Class<ChangePrice>()("ChangePrice", {
  payload: { product: Schema.String, price: Schema.Int, by: Schema.String },
  error,
  emits: [PriceChanged],
  middleware
}) {}

// --- the tables of the shop ---

export interface Order {
  readonly customer: string
  readonly product: string
  readonly quantity: number
  readonly state: "open" | "paid" | "cancelled"
  readonly placedAt: number
}

export const Orders = Store.table<Order>("orders")
/** Units that are left, by product. */
export const Stock = Store.table<number>("stock")
export const openingStock = 100
/** What customers have paid. */
export const Paid = Store.table<number>("paid")
export const Prices = Store.table<number>("prices")

// --- those of the totals ---

export interface Totals {
  readonly placed: number
  readonly paid: number
  readonly cancelled: number
}

export const noTotals: Totals = { placed: 0, paid: 0, cancelled: 0 }
export const CustomerTotals = Store.table<Totals>("customerTotals")
export const ProductTotals = Store.table<Totals>("productTotals")
export const ShownPrices = Store.table<number>("shownPrices")
