/**
 * What the example talks about: orders, the commands of the shop, and the events that follow.
 *
 * Domain events are for what must happen together, in the transaction of the command. Notification
 * events tell other programs what has happened.
 */
import { Command, DomainEvent, NotificationEvent } from "@event-flow/core"
import { Transactional } from "@event-flow/sql-layer"
import { Schema } from "effect"

const Count = Schema.Int.check(Schema.isGreaterThan(0))

/** A number of units of a product. */
export const Line = Schema.Struct({ product: Schema.String, quantity: Count })
export type Line = typeof Line.Type

const hasProductOnce = Schema.makeFilter(
  (lines: ReadonlyArray<Line>) => new Set(lines.map(({ product }) => product)).size === lines.length,
  { expected: "each product once" }
)

const Lines = Schema.NonEmptyArray(Line).check(hasProductOnce)

const orderFields = { order: Schema.String, customer: Schema.String }

export const CancelReason = Schema.Literals(["out of stock", "payment refused"])

// --- within the shop ---

/** An order was placed: its stock has to be reserved. */
export class OrderPlaced extends DomainEvent.Class<OrderPlaced>()("OrderPlaced", { ...orderFields, lines: Lines }) {}

/** A payment was refused: the reserved stock has to be released. */
export class PaymentRefused extends DomainEvent.Class<PaymentRefused>()("PaymentRefused", {
  ...orderFields,
  lines: Lines
}) {}

/** An order has to be cancelled. No stock is reserved for it. */
export class OrderFailed extends DomainEvent.Class<OrderFailed>()("OrderFailed", {
  ...orderFields,
  reason: CancelReason
}) {}

// --- for other programs, in order for each customer ---

export const topic = "orders"
const route = { topic, key: (event: { readonly customer: string }) => event.customer }

const announcedFields = {
  ...orderFields,
  /** The place among the events of the customer: 1, 2, 3 and so on, in the order in which they were committed. */
  number: Count
}

export class OrderReceived
  extends NotificationEvent.Class<OrderReceived>()("OrderReceived", { ...announcedFields, lines: Lines }, route)
{}

export class OrderPaid extends NotificationEvent.Class<OrderPaid>()("OrderPaid", {
  ...announcedFields,
  /** Prices and total in cents. */
  lines: Schema.NonEmptyArray(Schema.Struct({ product: Schema.String, quantity: Count, price: Count })),
  total: Count
}, route) {}

export class OrderCancelled extends NotificationEvent.Class<OrderCancelled>()("OrderCancelled", {
  ...announcedFields,
  reason: CancelReason
}, route) {}

// --- commands: sent twice, they do the same as once ---

export class UnknownProduct extends Schema.TaggedError<UnknownProduct>()("UnknownProduct", {
  product: Schema.String
}) {
  override get message() {
    return `The shop has no product "${this.product}"`
  }
}

/** Places an order and reserves its stock. Without stock the order is cancelled. That is not an error: it is on record. */
export class PlaceOrder extends Command.Class<PlaceOrder>()("PlaceOrder", {
  payload: { ...orderFields, lines: Lines },
  error: UnknownProduct,
  emits: [OrderPlaced, OrderReceived],
  middleware: [Transactional.make()]
}) {}

export class UnknownOrder extends Schema.TaggedError<UnknownOrder>()("UnknownOrder", {
  order: Schema.String
}) {
  override get message() {
    return `There is no order "${this.order}"`
  }
}

/** Pays an open order from the customer's money; the answer is what became of it. */
export class PayOrder extends Command.Class<PayOrder>()("PayOrder", {
  payload: { order: Schema.String },
  success: Schema.Literals(["paid", "cancelled"]),
  error: UnknownOrder,
  emits: [OrderPaid, PaymentRefused],
  middleware: [Transactional.make()]
}) {}
