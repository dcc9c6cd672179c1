/**
 * A system to simulate: its nodes, what its clients do, and what must hold.
 *
 * @stability unstable
 * @since 0.1.0
 */
import type * as Duration from "effect/Duration"
import type * as Effect from "effect/Effect"
import type { On } from "./Client.ts"
import type { Rates } from "./Fault.ts"
import type { Invariant, NodesView } from "./Invariant.ts"
import type { Nodes, Outside, ServicesOf, UnmetBy } from "./Node.ts"

/**
 * What the steps of clients may ask of nodes.
 *
 * @stability unstable
 * @category utility types
 * @since 0.1.0
 */
export type Endpoints<N extends Nodes> = {
  [K in keyof N & string]: On<K, ServicesOf<N[K]> | Outside>
}[keyof N & string]

/**
 * One thing that a client does. Its name is what reports say, and what faults of its
 * requests hang on; a smaller workload leaves out whole steps.
 *
 * @stability unstable
 * @category models
 * @since 0.1.0
 */
export interface Step<out R> {
  readonly name: string
  readonly run: Effect.Effect<unknown, unknown, R>
}

/**
 * A step of a client.
 *
 * @stability unstable
 * @category constructors
 * @since 0.1.0
 */
export const step = <A, E, R>(name: string, run: Effect.Effect<A, E, R>): Step<R> => ({ name, run })

/**
 * What happens to the nodes of a scenario, and what must hold.
 *
 * @stability unstable
 * @category models
 * @since 0.1.0
 */
export interface Options<N extends Nodes> {
  /**
   * The steps of each client, which follow one another; clients do theirs side by
   * side. A step that fails breaks the run: let it try again.
   */
  readonly clients: Readonly<Record<string, ReadonlyArray<Step<Endpoints<N>>>>>
  /** What holds after every change: a commit, a publish, an acknowledgement. */
  readonly always?: Readonly<Record<string, Invariant<N>>> | undefined
  /** What holds when all is done: clients, messages, and whatever else still changed something. */
  readonly eventually?: Readonly<Record<string, Invariant<N>>> | undefined
  /**
   * What some run has to come to, at some time: else the check says nothing about
   * it, and fails.
   */
  readonly sometimes?: Readonly<Record<string, (view: NodesView<N>) => boolean>> | undefined
  /** Upper limits of what goes wrong, or nothing at all. Default: everything, see `Fault.Rates`. */
  readonly faults?: Partial<Rates> | "none" | undefined
  /** For how long things go wrong. After that the system must come to its end. Default: 4 seconds of virtual time. */
  readonly faultsFor?: Duration.Input | undefined
  /**
   * For how long nothing may change before the system counts as settled: longer than
   * its longest wait. Default: 5 seconds of virtual time.
   */
  readonly quietFor?: Duration.Input | undefined
}

/**
 * What a simulation runs, and what it asks of every run. `Unmet` is what its nodes
 * need and nobody has provided: a simulation runs a scenario without any.
 *
 * @stability unstable
 * @category models
 * @since 0.1.0
 */
export interface Scenario<N extends Nodes = Nodes, out Unmet = never> extends Options<N> {
  readonly nodes: N
  /** Exists in types alone. */
  readonly "~unmet"?: Unmet | undefined
}

/**
 * A scenario. Its steps may ask a node for what its layer provides, and no more.
 *
 * **Example** (Two processes and a client)
 *
 * ```ts
 * import { Broker, Command, EventConsumer, EventFlow, EventHandler, Mediator, NotificationEvent } from "@event-flow/core"
 * import { Client, Inbox, Invariant, Outbox, Scenario, Simulation, Store, Transactional } from "@event-flow/simulation"
 * import { Effect, Layer, Schedule, Schema } from "effect"
 *
 * const Orders = Store.table<string>("orders")
 * const Counts = Store.table<number>("counts")
 *
 * class OrderPlaced extends NotificationEvent.Class<OrderPlaced>()("OrderPlaced", { customer: Schema.String }, {
 *   topic: "orders",
 *   key: (event) => event.customer
 * }) {}
 * class PlaceOrder extends Command.Class<PlaceOrder>()("PlaceOrder", {
 *   payload: { order: Schema.String, customer: Schema.String },
 *   error: Store.StoreError,
 *   emits: [OrderPlaced],
 *   middleware: [Transactional.make()]
 * }) {}
 * const Count = EventHandler.make("Count", { on: OrderPlaced, error: Store.StoreError })
 * class Shop extends EventFlow.make("Shop", { commands: [PlaceOrder] }) {}
 *
 * const PlaceOrderLive = PlaceOrder.toLayer(
 *   [Store.Store],
 *   Effect.fnUntraced(function*({ customer, order }, { collect }) {
 *     if (yield* Orders.insert(order, customer)) yield* collect(new OrderPlaced({ customer }))
 *   })
 * )
 * const ShopLive = Shop.layer().pipe(
 *   Layer.provide([PlaceOrderLive, Outbox.layer]),
 *   Layer.merge(Outbox.relay())
 * )
 * const CountsLive = EventConsumer.layer([Count], { group: "counts", dedupe: true }).pipe(
 *   Layer.provide(Count.toLayer([Store.Store], ({ customer }) => Counts.update(customer, (n = 0) => n + 1))),
 *   Layer.provide(Inbox.layer)
 * )
 *
 * const place = (order: string, customer: string) =>
 *   Scenario.step(
 *     `place ${order}`,
 *     Client.call("shop", Mediator.send(new PlaceOrder({ order, customer }))).pipe(
 *       Effect.retry({ schedule: Schedule.spaced("200 millis"), times: 100 })
 *     )
 *   )
 *
 * const scenario = Scenario.make({ shop: ShopLive, counts: { layer: CountsLive, instances: 2 } }, {
 *   clients: { web: [place("1", "ann"), place("2", "ann")], phone: [place("3", "bob")] },
 *   eventually: {
 *     "each order is counted once": (view) =>
 *       Invariant.equal("counted", Invariant.sum(view.rows(Counts).values()), view.rows(Orders).size)
 *   }
 * })
 *
 * Simulation.assert(scenario, { seeds: 50 })
 * ```
 *
 * @stability unstable
 * @category constructors
 * @since 0.1.0
 */
export const make = <const N extends Nodes>(nodes: N, options: Options<NoInfer<N>>): Scenario<N, UnmetBy<N>> => ({
  ...options,
  nodes
})
