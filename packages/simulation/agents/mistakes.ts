/**
 * Mistakes that are easily made with this package, and what to write instead: `scripts/agents.ts` makes AGENTS.md of them.
 */
// @effect-diagnostics *:off
import { Command, EventConsumer, EventFlow, EventHandler, Ids, Mediator, NotificationEvent } from "@event-flow/core"
import { Client, Inbox, Invariant, Outbox, Scenario, Simulation, Store, Transactional } from "@event-flow/simulation"
import { Clock, Effect, Layer, Schedule, Schema } from "effect"

const Orders = Store.table<{ readonly customer: string; readonly at: number }>("orders")
const Counts = Store.table<number>("counts")

class OrderPlaced extends NotificationEvent.Class<OrderPlaced>()("OrderPlaced", { customer: Schema.String }, {
  topic: "orders",
  key: (event) => event.customer
}) {}
class PlaceOrder extends Command.Class<PlaceOrder>()("PlaceOrder", {
  payload: { order: Schema.String, customer: Schema.String },
  error: Store.StoreError,
  emits: [OrderPlaced],
  middleware: [Transactional.make()]
}) {}
class Refund extends Command.Class<Refund>()("Refund", { payload: { order: Schema.String } }) {}
const Count = EventHandler.make("Count", { on: OrderPlaced, error: Store.StoreError })
class Shop extends EventFlow.make("Shop", { commands: [PlaceOrder] }) {}

const PlaceOrderLive = PlaceOrder.toLayer(
  [Store.Store],
  Effect.fnUntraced(function*({ customer, order }, { collect }) {
    const at = yield* Clock.currentTimeMillis
    if (yield* Orders.insert(order, { customer, at })) yield* collect(new OrderPlaced({ customer }))
  })
)
const ShopLive = Shop.layer().pipe(
  Layer.provide([PlaceOrderLive, Outbox.layer]),
  Layer.merge(Outbox.relay())
)
const CountLive = Count.toLayer([Store.Store], ({ customer }) => Counts.update(customer, (n = 0) => n + 1))
const CountsLive = EventConsumer.layer([Count], { group: "counts", dedupe: true }).pipe(
  Layer.provide([CountLive, Inbox.layer])
)
const nodes = { shop: ShopLive, counts: { layer: CountsLive, instances: 2 } }

const send = Client.call("shop", Mediator.send(new PlaceOrder({ order: "1", customer: "ann" })))
const place = Scenario.step("place 1", Effect.retry(send, { schedule: Schedule.spaced("200 millis"), times: 100 }))

// # Let a client ask again
// A request may be lost, and so may its answer. A step that fails breaks the run.
// Wrong:
{
  Scenario.make(nodes, { clients: { web: [Scenario.step("place 1", send)] } })
}
// Instead:
{
  const retry = { schedule: Schedule.spaced("200 millis"), times: 100 }
  Scenario.make(nodes, { clients: { web: [Scenario.step("place 1", Effect.retry(send, retry))] } })
}

// # Ask a node for what it has
// Wrong:
{
  const refund = Scenario.step("refund", Client.call("shop", Mediator.send(new Refund({ order: "1" }))))
  // @ts-expect-error The shop has no flow with that command
  Scenario.make(nodes, { clients: { web: [refund] } })
}
// Instead:
{
  Scenario.make(nodes, { clients: { web: [place] } })
}

// # Take the time from the clock
// A program that reads the time of the machine fails the check.
// Wrong:
{
  const now = Effect.sync(() => Date.now())
}
// Instead:
{
  const now = Clock.currentTimeMillis
}

// # Take ids from the service
// Wrong:
{
  const id = Effect.sync(() => crypto.randomUUID())
}
// Instead:
{
  const id = Effect.map(Ids.Ids, (ids) => ids.next())
}

// # Keep state in a layer or in the store
// A variable of a module outlives a process that dies, and the runs.
// Wrong:
{
  const seen = new Map<string, number>()
  const Live = Count.toLayer(({ customer }) => Effect.sync(() => seen.set(customer, (seen.get(customer) ?? 0) + 1)))
}
// Instead:
{
  const Live = Count.toLayer([Store.Store], ({ customer }) => Counts.update(customer, (n = 0) => n + 1))
}

// # Count in one statement, or lock the row
// Another process may write between a read and a write of the same transaction.
// Wrong:
{
  const addOne = Effect.fnUntraced(function*(customer: string) {
    const n = yield* Counts.get(customer)
    yield* Counts.put(customer, (n ?? 0) + 1)
  })
}
// Instead:
{
  const addOne = (customer: string) => Counts.update(customer, (n = 0) => n + 1)
}

// # Say what is wrong, or true
// An invariant without an answer does not compile: it would hold whatever happens.
// Wrong:
{
  Scenario.make(nodes, {
    clients: { web: [place] },
    // @ts-expect-error It says nothing when all is well
    eventually: { counted: (view) => view.rows(Counts).size === 1 ? undefined : "not counted" }
  })
}
// Instead:
{
  Scenario.make(nodes, {
    clients: { web: [place] },
    eventually: { counted: (view) => Invariant.equal("customers counted", view.rows(Counts).size, 1) }
  })
}

// # Ask always for what holds always
// Between a commit and its consumer the totals are behind.
// Wrong:
{
  Scenario.make(nodes, {
    clients: { web: [place] },
    always: { counted: (view) => Invariant.equal("counted", view.rows(Counts).size, view.rows(Orders).size) }
  })
}
// Instead:
{
  Scenario.make(nodes, {
    clients: { web: [place] },
    eventually: { counted: (view) => Invariant.equal("counted", view.rows(Counts).size, view.rows(Orders).size) }
  })
}

// # Name the states that some run has to come to
// A workload that never comes to the interesting part keeps every promise.
// Wrong:
{
  Simulation.assert(Scenario.make(nodes, { clients: { web: [place] } }))
}
// Instead:
{
  Simulation.assert(Scenario.make(nodes, {
    clients: { web: [place] },
    sometimes: { "an order is placed": (view) => view.rows(Orders).size > 0 }
  }))
}

// # Keep the recording of a finding, not its seed
// A seed is good for one version of the program.
// Wrong:
{
  Simulation.assert(Scenario.make(nodes, { clients: { web: [place] } }), { seed: 8 })
}
// Instead:
{
  Simulation.replay(Scenario.make(nodes, { clients: { web: [place] } }), {
    faults: [{ operation: "shop: commit orders, outbox", do: "failAfter" }]
  }).orThrow()
}
