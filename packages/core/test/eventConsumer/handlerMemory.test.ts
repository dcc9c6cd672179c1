/** A failed handler is retried by itself: those of the message that have succeeded do not run again. */
import { assert, describe, it } from "@effect/vitest"
import {
  Broker,
  BrokerLayer,
  ConsumerPolicy,
  DeadLetter,
  DomainEvent,
  EventConsumer,
  EventFlow,
  EventHandler,
  type EventProcessor,
  Inbox,
  MemoryBroker,
  Message,
  NotificationEvent
} from "@event-flow/core"
import { Effect, Layer, Schedule, Schema } from "effect"
import { adjust, Boom, RecordingLogger } from "../fixtures.ts"
import { encode } from "./support.ts"

class Sold extends NotificationEvent.Class<Sold>()("Sold", { n: Schema.Int }, { topic: "sales" }) {}
class Counted extends DomainEvent.Class<Counted>()("Counted", { by: Schema.String }) {}

const First = EventHandler.make("First", { on: Sold, emits: [Counted], error: Boom })
const Second = EventHandler.make("Second", { on: Sold, error: Boom })
const Third = EventHandler.make("Third", { on: Sold, emits: [Counted], error: Boom })
const OnCounted = EventHandler.make("OnCounted", { on: Counted, error: Boom })
class Sales extends EventFlow.make("Sales", { handlers: [First, Second, Third, OnCounted] }) {}

const sale = (headers: Message.Headers = {}): Message.Message =>
  Message.make({ topic: "sales", attributes: { id: "1", type: "Sold.v1" }, headers, body: encode({ n: 1 }) })

interface Options extends Partial<EventConsumer.Options>, Pick<EventProcessor.Options, "onFailure"> {
  /** How often each handler fails. Default: never. */
  readonly failing?: Readonly<Record<string, number>>
  /** The handlers that collect an event. */
  readonly collects?: ReadonlyArray<string>
}

/** Handles one message; gives the runs of the handlers, and what is in the topic of what was put aside. */
const handled = (
  message: Message.Message,
  { collects = [], failing = {}, onFailure, ...options }: Options = {}
) =>
  Effect.gen(function*() {
    const runs: Array<string> = []
    const run = (name: string): Effect.Effect<void, Boom> =>
      Effect.suspend(() => {
        runs.push(name)
        const count = runs.filter((other) => other === name).length
        return count <= (failing[name] ?? 0) ? Effect.fail(new Boom({ id: name })) : Effect.void
      })
    const collecting = (name: string) =>
    (
      _: Sold,
      { collect }: { readonly collect: (event: Counted) => Effect.Effect<void> }
    ) => Effect.andThen(run(name), collects.includes(name) ? collect(new Counted({ by: name })) : Effect.void)
    const flow = Sales.layer({ onFailure }).pipe(
      Layer.provideMerge([
        First.toLayer(collecting("First")),
        Second.toLayer(() => run("Second")),
        Third.toLayer(collecting("Third")),
        OnCounted.toLayer(({ by }) => run(`counted by ${by}`))
      ])
    )
    const live = EventConsumer.layer(Sales, {
      group: "group",
      outage: false,
      policy: () => ConsumerPolicy.retry(Schedule.recurs(1)),
      ...options
    })
    return yield* Effect.gen(function*() {
      const broker = yield* Broker.Broker
      const memory = yield* MemoryBroker.MemoryBroker
      yield* broker.publish([message])
      yield* adjust("1 minute")
      yield* memory.awaitIdle
      const aside = [...(yield* memory.messages("sales.dead-letter")), ...(yield* memory.messages("later"))]
      return { runs, aside }
    }).pipe(Effect.provide(
      live.pipe(
        Layer.provide(flow),
        Layer.provide(Inbox.layerMemory()),
        Layer.provideMerge(MemoryBroker.layer()),
        Layer.provideMerge(new RecordingLogger().layer)
      )
    ))
  })

const handlersOf = ([message]: ReadonlyArray<Message.Message>) => DeadLetter.handlersToRun(message!, "group")

describe("handlers that have succeeded", () => {
  it.effect("do not run again in the retries of the delivery", () =>
    Effect.gen(function*() {
      const policy = () => ConsumerPolicy.retry(Schedule.recurs(3))
      const { aside, runs } = yield* handled(sale(), { policy, failing: { Second: 2, Third: 1 } })
      assert.deepStrictEqual(runs, ["First", "Second", "Second", "Second", "Third", "Third"])
      assert.deepStrictEqual(aside, [])
    }))

  it.effect("nor do they after an outage", () =>
    Effect.gen(function*() {
      const { runs } = yield* handled(sale(), {
        outage: { patience: "5 seconds" },
        policy: () => ConsumerPolicy.deadLetter(),
        failing: {}
      })
      assert.deepStrictEqual(runs, ["First", "Second", "Third"])
      const held = yield* handled(sale(), { outage: {}, failing: { Second: 2 } })
      assert.deepStrictEqual(held.runs, ["First", "Second", "Second", "Second", "Third"])
    }))

  it.effect("have their follow-ups done once, after the last handler has succeeded", () =>
    Effect.gen(function*() {
      const { runs } = yield* handled(sale(), { failing: { Second: 1 }, collects: ["First", "Third"] })
      assert.deepStrictEqual(runs, [
        "First",
        "Second",
        "Second",
        "Third",
        "counted by First",
        "counted by Third"
      ])
    }))

  it.effect("do not run again when a follow-up fails: the follow-ups do", () =>
    Effect.gen(function*() {
      const { runs } = yield* handled(sale(), { failing: { "counted by Third": 1 }, collects: ["First", "Third"] })
      const followUps = ["counted by First", "counted by Third"]
      assert.deepStrictEqual(runs, ["First", "Second", "Third", ...followUps, ...followUps])
    }))

  it.effect("with onFailure accumulate, each that failed runs again and no other", () =>
    Effect.gen(function*() {
      const { runs } = yield* handled(sale(), { onFailure: "accumulate", failing: { First: 1, Third: 1 } })
      assert.deepStrictEqual(runs, ["First", "Second", "Third", "First", "Third"])
    }))

  it.effect("run again with an inbox, whose transaction was rolled back", () =>
    Effect.gen(function*() {
      const { aside, runs } = yield* handled(sale(), { dedupe: true, failing: { Second: 9 } })
      assert.deepStrictEqual(runs, ["First", "Second", "First", "Second"])
      assert.deepStrictEqual(handlersOf(aside), ["First", "Second", "Third"])
    }))

  it.effect("the next message starts anew", () =>
    Effect.gen(function*() {
      const { runs } = yield* handled(sale(), { failing: { First: 1 } })
      assert.deepStrictEqual(runs, ["First", "First", "Second", "Third"])
    }))
})

describe("a message that is put aside", () => {
  for (
    const [name, policy] of Object.entries({
      "a dead letter": () => ConsumerPolicy.deadLetter(),
      "a postponed message": () => ConsumerPolicy.postpone({ topic: "later", step: 1, delay: 1 })
    })
  ) {
    it.effect(`says which handlers are still to run, and the group runs these: ${name}`, () =>
      Effect.gen(function*() {
        const { aside, runs } = yield* handled(sale(), { policy, failing: { Second: 9 } })
        assert.deepStrictEqual(runs, ["First", "Second"])
        assert.deepStrictEqual(handlersOf(aside), ["Second", "Third"])
        const again = yield* handled(sale(aside[0]!.headers), { policy })
        assert.deepStrictEqual(again.runs, ["Second", "Third"])
        const third = yield* handled(sale(aside[0]!.headers), { policy, failing: { Third: 9 } })
        assert.deepStrictEqual(handlersOf(third.aside), ["Third"])
        const withInbox = yield* handled(sale(aside[0]!.headers), { policy, dedupe: true, failing: { Third: 9 } })
        assert.deepStrictEqual(withInbox.runs, ["Second", "Third"])
        assert.deepStrictEqual(handlersOf(withInbox.aside), ["Second", "Third"])
        const others = yield* handled(sale(aside[0]!.headers), { policy, group: "others" })
        assert.deepStrictEqual(others.runs, ["First", "Second", "Third"])
      }))
  }

  it.effect("has a handler run again whose follow-ups were not done", () =>
    Effect.gen(function*() {
      const { aside } = yield* handled(sale(), { failing: { Second: 9 }, collects: ["First"] })
      assert.deepStrictEqual(handlersOf(aside), ["First", "Second", "Third"])
    }))

  it.effect("is not passed over when none of its handlers is known any more", () =>
    Effect.gen(function*() {
      const headers = BrokerLayer.encodeRetry({
        group: "group",
        step: 1,
        due: 0,
        attempts: 1,
        topic: "sales",
        reason: "HandlerFailed",
        error: "",
        handlers: ["Renamed"],
        origin: {}
      })
      assert.deepStrictEqual((yield* handled(sale(headers))).runs, ["First", "Second", "Third"])
      for (const handlers of ["[", "{}", "[1]"]) {
        const { runs } = yield* handled(sale({ ...headers, "event-flow-retry-handlers": handlers }))
        assert.deepStrictEqual(runs, ["First", "Second", "Third"], handlers)
      }
    }))
})
