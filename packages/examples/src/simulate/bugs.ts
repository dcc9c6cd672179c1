/**
 * Bugs to plant in the system, each as the part that has it. They are what everyone who builds on messages fears, and the
 * simulation finds all of them.
 */
import { Broker, ConsumerPolicy, Inbox } from "@event-flow/core"
import { Outbox, Store } from "@event-flow/simulation"
import { Clock, Effect, Layer, Schedule } from "effect"
import {
  ChangePrice,
  CustomerTotals,
  ExpireOrder,
  noTotals,
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
  ProductTotals,
  Stock,
  type Totals
} from "./domain.ts"
import type { Parts } from "./scenario.ts"
import { type Count, oneMore } from "./totals.ts"

/** Published when the command is done: outside of its transaction. */
const dualWrite: Parts = {
  outbox: Layer.effect(Broker.Broker, Broker.Broker)
}

/** Prices of one product with two keys have no order. */
const wrongKey: Parts = {
  changePrice: ChangePrice.toLayer(
    [Store.Store],
    Effect.fnUntraced(function*({ by, price, product }, { collect }) {
      yield* Prices.put(product, price)
      yield* collect(new PriceChanged({ shelf: by, product, price }))
    })
  )
}

/** Whoever asks twice pays twice. */
const paidTwice: Parts = {
  payOrder: PayOrder.toLayer(
    [Store.Store],
    Effect.fnUntraced(function*({ order }, { collect }) {
      const found = yield* Orders.lock(order)
      if (found === undefined || found.state === "cancelled") return
      const { customer, product, quantity } = found
      yield* Paid.update(customer, (paid = 0) => paid + quantity)
      yield* Orders.put(order, { ...found, state: "paid" })
      yield* collect(new OrderPaid({ order, customer, product, quantity }))
    })
  )
}

/** The order may be paid between the look and the write. */
const deadlineRace: Parts = {
  expireOrder: ExpireOrder.toLayer(
    [Store.Store],
    Effect.fnUntraced(function*({ order }, { collect }) {
      const found = yield* Orders.get(order)
      if (found?.state !== "open") return
      const { customer, product, quantity } = found
      yield* Stock.update(product, (left = openingStock) => left + quantity)
      yield* Orders.put(order, { ...found, state: "cancelled" })
      yield* collect(new OrderCancelled({ order, customer, product, quantity }))
    })
  )
}

/** The id is made by the server, so a command that is sent again is another order. */
const idOfTheServer: Parts = {
  placeOrder: PlaceOrder.toLayer(
    [Store.Store],
    Effect.fnUntraced(function*({ customer, product, quantity }, { collect }) {
      const order = `order-${yield* Store.next("orders")}`
      const placedAt = yield* Clock.currentTimeMillis
      yield* Orders.put(order, { customer, product, quantity, state: "open", placedAt })
      yield* Stock.update(product, (left = openingStock) => left - quantity)
      yield* collect(new OrderPlaced({ order, customer, product, quantity }))
    })
  )
}

/** Removed from the outbox before the broker has it. */
const relayMarksFirst: Parts = {
  relay: Layer.effectDiscard(Effect.gen(function*() {
    const broker = yield* Broker.Broker
    yield* Effect.gen(function*() {
      for (const [key, message] of yield* Outbox.messages.all) {
        yield* Outbox.messages.remove(key)
        yield* Effect.retry(broker.publish([message]), Schedule.spaced("100 millis"))
      }
      yield* Effect.sleep("500 millis")
    }).pipe(Effect.catch(() => Effect.sleep("300 millis")), Effect.forever, Effect.forkScoped)
  }))
}

const perCustomer = (customer: string, field: keyof Totals) => CustomerTotals.update(customer, oneMore(field))

/** Two instances read the same number, and both write the next one. */
const lostUpdate: Parts = {
  count: (): Count =>
    Effect.fnUntraced(function*({ customer, product }, field) {
      yield* perCustomer(customer, field)
      const totals = yield* ProductTotals.get(product)
      yield* ProductTotals.put(product, oneMore(field)(totals))
    })
}

/** The process forgets it when it dies, and each instance has a memory of its own. */
const stateInMemory: Parts = {
  count: (): Count => {
    const seen = new Map<string, Totals>()
    return Effect.fnUntraced(function*({ customer, product }, field) {
      yield* perCustomer(customer, field)
      const totals = oneMore(field)(seen.get(product) ?? noTotals)
      seen.set(product, totals)
      yield* ProductTotals.put(product, totals)
    })
  }
}

/** Acknowledged before the work is done, which goes on by itself. */
const acknowledgedTooEarly: Parts = {
  count: (): Count => ({ customer, product }, field) =>
    Effect.gen(function*() {
      yield* Effect.sleep("5 millis")
      yield* perCustomer(customer, field)
      yield* ProductTotals.update(product, oneMore(field))
    }).pipe(Effect.forkDetach, Effect.asVoid)
}

/** The message counts as handled before it is. */
const inboxBeforeWork: Parts = {
  inbox: Layer.effect(
    Inbox.Inbox,
    Effect.map(
      Effect.context<Store.Store>(),
      (context) =>
        Inbox.make((consumer, messageIds, handle) =>
          Effect.forEach(messageIds, (id) => Seen.insert(`${consumer}/${id}`, true)).pipe(
            Effect.provideContext(context),
            Effect.mapError((cause) => new Inbox.InboxError({ consumer, messageId: messageIds.join(", "), cause })),
            Effect.flatMap(handle)
          )
        )
    )
  )
}

const Seen = Store.table<true>("seen")

/** What fails is passed over. */
const skippedFailures: Parts = {
  policy: (failure) => failure._tag === "HandlerFailed" ? ConsumerPolicy.skip : ConsumerPolicy.stop
}

/** All of them by name. */
export const bugs = {
  "no-dedupe": { dedupe: false },
  "dual-write": dualWrite,
  "wrong-key": wrongKey,
  "acknowledged-too-early": acknowledgedTooEarly,
  "paid-twice": paidTwice,
  "deadline-race": deadlineRace,
  "lost-update": lostUpdate,
  "inbox-before-work": inboxBeforeWork,
  "skipped-failures": skippedFailures,
  "relay-marks-first": relayMarksFirst,
  "state-in-memory": stateInMemory,
  "id-of-the-server": idOfTheServer
} satisfies Record<string, Parts>

export type Bug = keyof typeof bugs
