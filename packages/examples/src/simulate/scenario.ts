/**
 * The whole system, what its clients do, and what must hold whatever goes wrong.
 */
import { Mediator } from "@event-flow/core"
import { Client, Invariant, Scenario } from "@event-flow/simulation"
import { Effect, Schedule } from "effect"
import {
  ChangePrice,
  CustomerTotals,
  openingStock,
  type Order,
  Orders,
  Paid,
  PayOrder,
  PlaceOrder,
  Prices,
  ProductTotals,
  ShownPrices,
  Stock
} from "./domain.ts"
import * as Shop from "./shop.ts"
import * as Totals from "./totals.ts"

/** Parts of the two programs, to put others in their place. */
export type Parts = Partial<typeof Shop.parts & typeof Totals.parts>

// A client without an answer asks again
const retry = { schedule: Schedule.spaced("200 millis"), times: 60 }

const place = (order: string, customer: string, product: string, quantity: number) =>
  Scenario.step(
    `place ${order}`,
    Effect.retry(Client.call("shop", Mediator.send(new PlaceOrder({ order, customer, product, quantity }))), retry)
  )
const pay = (order: string) =>
  Scenario.step(`pay ${order}`, Effect.retry(Client.call("shop", Mediator.send(new PayOrder({ order }))), retry))
const setPrice = (product: string, price: number, by: string) =>
  Scenario.step(
    `${by} sets the price of ${product} to ${price}`,
    Effect.retry(Client.call("shop", Mediator.send(new ChangePrice({ product, price, by }))), retry)
  )
const wait = (millis: number) => Scenario.step(`wait ${millis} ms`, Effect.sleep(millis))

const unitsOf = (orders: Iterable<Order>, ...states: ReadonlyArray<Order["state"]>): number =>
  Invariant.sum(orders, ({ quantity, state }) => states.includes(state) ? quantity : 0)

const products = ["tea", "jam"]

export const scenario = (parts: Parts = {}) =>
  Scenario.make({
    shop: Shop.shop({ ...Shop.parts, ...parts }),
    totals: { layer: Totals.totals({ ...Totals.parts, ...parts }), instances: 2 }
  }, {
    clients: {
      ann: [place("o1", "ann", "tea", 2), pay("o1"), place("o2", "ann", "jam", 1), wait(1400), pay("o2")],
      bob: [
        place("o3", "bob", "tea", 3),
        setPrice("tea", 10, "ann"),
        setPrice("tea", 20, "bob"),
        wait(900),
        pay("o3")
      ],
      eve: [setPrice("jam", 5, "bob"), place("o4", "eve", "tea", 1), setPrice("jam", 6, "eve")]
    },
    always: {
      "stock matches the orders": (view) =>
        Invariant.equal(
          "units reserved or sold",
          Invariant.sum(products, (product) => openingStock - (view.row(Stock, product) ?? openingStock)),
          unitsOf(view.rows(Orders).values(), "open", "paid")
        ),
      "money matches the orders": (view) =>
        Invariant.equal(
          "units paid",
          Invariant.sum(view.rows(Paid).values()),
          unitsOf(view.rows(Orders).values(), "paid")
        )
    },
    eventually: {
      "each order is there once": (view) =>
        Invariant.all([
          view.rows(Orders).size <= 4 ? true : `${view.rows(Orders).size} orders of 4`
        ]),
      "customers are counted once": (view) => isCounted(view.rows(Orders), view.rows(CustomerTotals)),
      "products are counted once": (view) => isCounted(view.rows(Orders), view.rows(ProductTotals)),
      "the price shown is the last one set": (view) =>
        Invariant.all(
          Array.from(
            view.rows(Prices),
            ([product, price]) => Invariant.equal(`the price of ${product}`, view.row(ShownPrices, product), price)
          )
        )
    },
    sometimes: {
      "an order is cancelled": (view) => [...view.rows(Orders).values()].some(({ state }) => state === "cancelled"),
      "an order is paid": (view) => [...view.rows(Orders).values()].some(({ state }) => state === "paid")
    }
  })

const isCounted = (
  orders: ReadonlyMap<string, Order>,
  totals: ReadonlyMap<string, { readonly placed: number; readonly paid: number; readonly cancelled: number }>
): Invariant.Verdict => {
  const all = [...orders.values()]
  const counted = [...totals.values()]
  const having = (state: Order["state"]) => all.filter((order) => order.state === state).length
  return Invariant.all([
    Invariant.equal("orders counted as placed", Invariant.sum(counted, ({ placed }) => placed), all.length),
    Invariant.equal("orders counted as paid", Invariant.sum(counted, ({ paid }) => paid), having("paid")),
    Invariant.equal(
      "orders counted as cancelled",
      Invariant.sum(counted, ({ cancelled }) => cancelled),
      having("cancelled")
    )
  ])
}
