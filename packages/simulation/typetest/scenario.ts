/** What the types of a scenario refuse. */
import { Command, EventFlow, Mediator } from "@event-flow/core"
import { Client, Invariant, Scenario, Simulation, Store } from "@event-flow/simulation"
import { Context, Effect, Layer, Schema } from "effect"

class Book extends Command.Class<Book>()("Book", { success: Schema.Int, error: Store.StoreError }) {}
class Cancel extends Command.Class<Cancel>()("Cancel", {}) {}
class Hotel extends EventFlow.make("Hotel", { commands: [Book] }) {}
class Desk extends Context.Service<Desk, { readonly guests: number }>()("Desk") {}
class Database extends Context.Service<Database, object>()("Database") {}

const HotelLive = Hotel.layer().pipe(Layer.provide(Book.toLayer(() => Effect.succeed(1))))
const DeskLive = Layer.succeed(Desk)({ guests: 1 })
const nodes = { hotel: HotelLive, desk: { layer: DeskLive, instances: 2 } }

const book = Client.call("hotel", Mediator.send(new Book()))

// The answer and the failures of the command, and that there may be no answer
export const answer: Effect.Effect<
  number,
  Store.StoreError | Client.NodeUnavailable,
  Client.On<"hotel", Command.CommandFlow<"Book">>
> = book

// A step asks a node for what it has
Scenario.make(nodes, { clients: { web: [Scenario.step("book", book)] } })
// @ts-expect-error The hotel has no such command
Scenario.make(nodes, { clients: { web: [Scenario.step("cancel", Client.call("hotel", Mediator.send(new Cancel())))] } })
// @ts-expect-error It is the hotel that has the command
Scenario.make(nodes, { clients: { web: [Scenario.step("book", Client.call("desk", Mediator.send(new Book())))] } })
// @ts-expect-error There is no such node
Scenario.make(nodes, { clients: { web: [Scenario.step("ask", Client.call("bar", Effect.void))] } })
// What is outside of every node is there on each
Scenario.make(nodes, { clients: { web: [Scenario.step("ask", Client.call("desk", Store.transaction(Effect.void)))] } })
// @ts-expect-error A step itself is outside of every node
Scenario.make(nodes, { clients: { web: [Scenario.step("look", Desk)] } })

// A node needs nothing but what is outside of every node
const needs = Scenario.make({ one: Layer.effectDiscard(Database), two: { layer: Layer.effectDiscard(Desk) } }, {
  clients: {}
})
// @ts-expect-error Nobody has provided the database
Simulation.check(needs)
// @ts-expect-error Nor here
Simulation.assert(needs)
// @ts-expect-error Nor here
Simulation.each(needs)
// @ts-expect-error Nor here
Simulation.replay(needs, {})

// An invariant sees the services of the nodes that there are, and says true or what is wrong
Scenario.make(nodes, {
  clients: {},
  always: {
    guests: (view) =>
      Invariant.equal("guests", Invariant.sum(view.services("desk"), (desk) => Context.get(desk, Desk).guests), 2)
  }
})
Scenario.make(nodes, {
  clients: {},
  // @ts-expect-error There is no such node
  always: { none: (view) => view.services("bar").length === 0 || "there is one" }
})
Scenario.make(nodes, {
  clients: {},
  always: {
    desks: (view) => {
      // @ts-expect-error The hotel has no desk
      const desks: ReadonlyArray<Context.Context<Desk>> = view.services("hotel")
      return desks.length === 1 || "no desk"
    }
  }
})
Scenario.make(nodes, {
  clients: {},
  // @ts-expect-error It does not say what is wrong
  always: { silent: (view) => view.now > 0 }
})

// Rows have the type of their table
const Rooms = Store.table<{ readonly beds: number }>("rooms")
export const put = Rooms.put("1", { beds: 2 })
// @ts-expect-error No such row
export const putWrong = Rooms.put("1", { chairs: 2 })
Scenario.make(nodes, {
  clients: {},
  // @ts-expect-error No such field
  always: { beds: (view) => view.row(Rooms, "1")?.chairs === 2 || "no chairs" }
})
