/** Several flows in one program: F19. */
import { assert, describe, it } from "@effect/vitest"
import { Command, DomainEvent, EventFlow, EventHandler, Mediator } from "@event-flow/core"
import { Effect, Layer, Schema } from "effect"
import { Journal, RecordingLogger } from "../fixtures.ts"

class Visited extends DomainEvent.Class<Visited>()("Visited", {}) {}
class Paid extends DomainEvent.Class<Paid>()("Paid", {}) {}
/** Both flows know it. */
class Shared extends DomainEvent.Class<Shared>()("Shared", { by: Schema.String }) {}

class Visit extends Command.Class<Visit>()("Visit", { emits: [Visited, Shared] }) {}
class Pay extends Command.Class<Pay>()("Pay", { emits: [Paid, Shared] }) {}

const OnVisited = EventHandler.make("OnVisited", { on: Visited, emits: [Paid] })
const OnPaid = EventHandler.make("OnPaid", { on: Paid })
const VisitShared = EventHandler.make("VisitShared", { on: Shared })
const PayShared = EventHandler.make("PayShared", { on: Shared })

class Scheduling extends EventFlow.make("Scheduling", { commands: [Visit], handlers: [OnVisited, VisitShared] }) {}
class Billing extends EventFlow.make("Billing", { commands: [Pay], handlers: [OnPaid, PayShared] }) {}

const both = Effect.andThen(Mediator.send(new Visit()), Mediator.send(new Pay()))

const setup = () => {
  const { entries, note } = new Journal()
  return {
    entries,
    scheduling: Layer.mergeAll(
      Visit.toLayer((_, { collectAll }) => collectAll([new Visited(), new Shared({ by: "Visit" })])),
      OnVisited.toLayer((_, { collect }) => Effect.andThen(note("OnVisited"), collect(new Paid()))),
      VisitShared.toLayer(({ by }) => note(`VisitShared by ${by}`))
    ),
    billing: Layer.mergeAll(
      Pay.toLayer((_, { collectAll }) => collectAll([new Paid(), new Shared({ by: "Pay" })])),
      OnPaid.toLayer(() => note("OnPaid")),
      PayShared.toLayer(({ by }) => note(`PayShared by ${by}`))
    )
  }
}

describe("F19: flows side by side", () => {
  for (const concurrency of [1, 3]) {
    const join = <A, B, E1, E2>(scheduling: Layer.Layer<A, E1>, billing: Layer.Layer<B, E2>) => ({
      "Layer.merge": Layer.merge(scheduling, billing),
      "Layer.merge, the other way round": Layer.merge(billing, scheduling),
      "Layer.provideMerge": Layer.provideMerge(scheduling, billing),
      "Layer.provideMerge, the other way round": Layer.provideMerge(billing, scheduling)
    })
    for (const way of Object.keys(join(Layer.empty, Layer.empty)) as Array<keyof ReturnType<typeof join>>) {
      it.effect(`F19: every command goes through its own flow, joined by ${way}, concurrency ${concurrency}`, () =>
        Effect.gen(function*() {
          const { billing, entries, scheduling } = setup()
          const logger = new RecordingLogger()
          const layer = join(
            Scheduling.layer({ concurrency }).pipe(Layer.provide(scheduling)),
            Billing.layer({ concurrency }).pipe(Layer.provide(billing))
          )[way]
          yield* both.pipe(Effect.provide([layer, logger.layer]))
          assert.deepStrictEqual(entries, ["OnVisited", "VisitShared by Visit", "OnPaid", "PayShared by Pay"])
          // An event of the one is none of the other, which handles it
          assert.deepStrictEqual(logger.entries.map((entry) => entry.slice(0, 49)), [
            "Warn Domain event \"Paid\" has no handler in its fl"
          ])
        }))
    }
  }

  it.effect("F19: and with its own options", () =>
    Effect.gen(function*() {
      const { billing, scheduling } = setup()
      const layer = Layer.mergeAll(
        Scheduling.layer({ maxDepth: 0 }).pipe(Layer.provide(scheduling)),
        Billing.layer().pipe(Layer.provide(billing))
      )
      yield* Effect.gen(function*() {
        // Paid, which OnVisited collects, is one follow-up too deep
        assert.strictEqual((yield* Effect.flip(Mediator.send(new Visit())))._tag, "CascadeTooDeep")
        yield* Mediator.send(new Pay())
      }).pipe(Effect.provide(layer))
    }))
})

describe("F19: flows that are one", () => {
  class Clinic extends EventFlow.make("Clinic", { flows: [Scheduling, Billing] }) {}

  for (const concurrency of [1, 3]) {
    it.effect(`F19: the events of one are handled by the other, concurrency ${concurrency}`, () =>
      Effect.gen(function*() {
        const { billing, entries, scheduling } = setup()
        const logger = new RecordingLogger()
        const layer = Clinic.layer({ concurrency }).pipe(Layer.provide([scheduling, billing]))
        yield* both.pipe(Effect.provide([layer, logger.layer]))
        assert.deepStrictEqual(
          [...entries].sort(),
          [
            "OnVisited",
            "VisitShared by Visit",
            "PayShared by Visit",
            "OnPaid",
            "OnPaid",
            "VisitShared by Pay",
            "PayShared by Pay"
          ].sort()
        )
        assert.deepStrictEqual(logger.entries, [])
      }))
  }

  it("lists each member once, those of its flows first", () => {
    class Extra extends Command.Class<Extra>()("Extra", {}) {}
    class Whole extends EventFlow.make("Whole", { flows: [Clinic, Scheduling], commands: [Extra, Pay] }) {}
    assert.deepStrictEqual(Whole.commands, [Visit, Pay, Extra])
    assert.deepStrictEqual(Whole.handlers, [OnVisited, VisitShared, OnPaid, PayShared])
  })
})

describe("an implementation that no flow lists", () => {
  const handlers = ["OnPaid", "Forgotten"] as const

  it.effect("is warned about when its layer is built", () =>
    Effect.gen(function*() {
      const Forgotten = EventHandler.make(handlers[1], { on: Paid })
      class Left extends Command.Class<Left>()("Left", {}) {}
      const logger = new RecordingLogger()
      yield* Layer.build(
        Layer.mergeAll(
          Forgotten.toLayer(() => Effect.void),
          Left.toLayer(() => Effect.void),
          OnPaid.toLayer(() => Effect.void),
          Pay.toLayer(() => Effect.void)
        )
      ).pipe(Effect.provide(logger.layer))
      const advice = "is provided, and no flow lists it: it never runs. " +
        "List it in EventFlow.make, or in the EventConsumer that handles it"
      assert.deepStrictEqual(logger.entries.sort(), [
        `Warn The layer of command "Left" ${advice}`,
        `Warn The layer of event handler "Forgotten" ${advice}`
      ])
    }))
})
