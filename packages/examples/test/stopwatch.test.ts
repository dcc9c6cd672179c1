import { assert, it } from "@effect/vitest"
import { Command, DomainEvent, EventFlow, EventHandler, Mediator } from "@event-flow/core"
import { Effect, Layer, Record } from "effect"
import { TestClock } from "effect/testing"
import { Stopwatch } from "../src/flights/stopwatch.ts"

class Paid extends DomainEvent.Class<Paid>()("Paid", {}) {}
class Pay extends Command.Class<Pay>()("Pay", { emits: [Paid] }) {}
const Ship = EventHandler.make("Ship", { on: Paid })
class Shop extends EventFlow.make("Shop", { commands: [Pay], handlers: [Ship] }) {}

const ShopLive = Shop.layer().pipe(
  Layer.provide([
    Pay.toLayer((_, { collect }) => Effect.andThen(TestClock.adjust("2 seconds"), collect(new Paid()))),
    Ship.toLayer(() => TestClock.adjust("3 seconds"))
  ]),
  Layer.provideMerge(Stopwatch.layer)
)

it.effect("the stopwatch gives handlers the time of handlers, and nothing else", () =>
  Effect.gen(function*() {
    const { begin, sending, times } = yield* Stopwatch
    yield* TestClock.adjust("10 seconds")
    begin("decoding")
    yield* TestClock.adjust("5 seconds")
    // A part of the send that no handler takes
    yield* sending(Effect.andThen(TestClock.adjust("7 seconds"), Mediator.send(new Pay())))
    yield* TestClock.adjust("1 second")
    const { parts } = yield* times
    assert.deepStrictEqual(
      Record.map(parts, (nanos) => nanos / 1e9),
      { eventFlow: 7, handlers: 5, broker: 0, decoding: 5, rest: 11 }
    )
  }).pipe(Effect.provide(ShopLive)))
