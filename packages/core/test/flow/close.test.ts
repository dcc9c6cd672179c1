/** What a closed flow does, and when it is closed: F20. */
import { assert, describe, it } from "@effect/vitest"
import {
  Command,
  DomainEvent,
  EventFlow,
  EventFlowError,
  EventHandler,
  Mediator,
  Middleware,
  Query
} from "@event-flow/core"
import { Cause, Context, Effect, Exit, Fiber, Layer, Schema, Scope, Stream } from "effect"
import { MaxOpsBeforeYield } from "effect/Scheduler"
import { adjust, Journal, open, passTime, RecordingLogger, settle } from "../fixtures.ts"

class Done extends DomainEvent.Class<Done>()("Done", { n: Schema.Int }) {}
class Plain extends Command.Class<Plain>()("Plain", { emits: [Done] }) {}
class Wrapped extends Command.Class<Wrapped>()("Wrapped", { emits: [Done], middleware: [Middleware.logging] }) {}
class Numbers extends Query.Class<Numbers>()("Numbers", { success: Schema.Int, stream: true }) {}
class Streamed extends Command.Class<Streamed>()("Streamed", { success: Schema.Int, emits: [Done], stream: true }) {}
const OnDone = EventHandler.make("OnDone", { on: Done })
class Work extends EventFlow.make("Work", { commands: [Plain, Wrapped, Numbers, Streamed], handlers: [OnDone] }) {}
class Own extends Mediator.Service<Own>()("test/OwnClosing", { middleware: [] }) {}

type Requires = Command.Flows<"Plain" | "Wrapped" | "Numbers" | "Streamed"> | Own

const ways: Record<string, readonly [tag: string, Effect.Effect<unknown, unknown, Requires>]> = {
  "send": ["Plain", Mediator.send(new Plain())],
  "send, with middleware": ["Wrapped", Mediator.send(new Wrapped())],
  "sendSettled": ["Plain", Mediator.sendSettled(new Plain())],
  "stream": ["Streamed", Stream.runDrain(Mediator.stream(new Streamed()))],
  "stream of a query": ["Numbers", Stream.runDrain(Mediator.stream(new Numbers()))],
  "a mediator of one's own": ["Plain", Own.send(new Plain())]
}

/** The flow, whose handlers do `work` in each of their runs; `released` runs right after its end. */
const workWith = (work: Effect.Effect<void>, released: Effect.Effect<void> = Effect.void) =>
  Work.layer().pipe(
    Layer.provide(Layer.effectDiscard(Effect.addFinalizer(() => released))),
    Layer.provide([
      Plain.toLayer((_, { collect }) => Effect.andThen(work, collect(new Done({ n: 1 })))),
      Wrapped.toLayer((_, { collect }) => Effect.andThen(work, collect(new Done({ n: 1 })))),
      Numbers.toLayer(() => Stream.fromEffect(Effect.as(work, 1))),
      Streamed.toLayer((_, { collect }) =>
        Stream.fromEffect(Effect.as(Effect.andThen(work, collect(new Done({ n: 1 }))), 1))
      ),
      OnDone.toLayer(() => work)
    ])
  )

describe("F20: after the end", () => {
  for (const [way, [command, send]] of Object.entries(ways)) {
    it.effect(`F20: ${way} dies with FlowClosed, which names flow and command`, () =>
      Effect.gen(function*() {
        const { entries, note } = new Journal()
        const own = yield* Layer.build(Own.layer())
        const { close, context } = yield* open(workWith(note("ran")))
        const sending = Effect.provideContext(send, Context.merge(own, context))
        yield* sending
        const before = entries.length
        yield* close
        const exit = yield* Effect.exit(sending)
        const closed = new EventFlowError.FlowClosed({ flow: "Work", command })
        assert.deepStrictEqual(
          Exit.isFailure(exit) && exit.cause.reasons.map((reason) => Cause.isDieReason(reason) && reason.defect),
          [closed]
        )
        assert.strictEqual(entries.length, before)
        assert.include(closed.message, `Command "${command}" was sent after flow "Work" was closed`)
      }))
  }

  it.effect("F20: what a handler sends to a flow that is closed before its own", () =>
    Effect.gen(function*() {
      class Outer extends Command.Class<Outer>()("Outer", {}) {}
      const { close, context } = yield* open(workWith(Effect.void))
      const sendPlain = Effect.provideContext(Effect.orDie(Mediator.send(new Plain())), context)
      const outer = EventFlow.make("Outside", { commands: [Outer] }).layer().pipe(
        Layer.provide(Outer.toLayer(() => sendPlain))
      )
      yield* Effect.provide(Mediator.send(new Outer()), outer)
      yield* close
      const exit = yield* Effect.exit(Effect.provide(Mediator.send(new Outer()), outer))
      assert.deepStrictEqual(exit, Exit.die(new EventFlowError.FlowClosed({ flow: "Work", command: "Plain" })))
    }))
})

describe("F20: wherever the run loop yields", () => {
  interface Budgets {
    /** After how many operations the fiber of each yields. */
    readonly send: number
    readonly close: number
    /** How many operations the send comes later, and how many turns the close. */
    readonly operations: number
    readonly turns: number
  }

  const times = (times: number, effect: Effect.Effect<void>) => Effect.replicateEffect(effect, times, { discard: true })

  /** Closes a flow beside a send. */
  const race = Effect.fnUntraced(function*(
    send: Effect.Effect<unknown, unknown, Requires>,
    budgets: Budgets
  ) {
    const seen = { begun: 0, late: 0, waited: false }
    let isClosed = false
    let running = 0
    const work = Effect.acquireUseRelease(
      Effect.sync(() => {
        running++
        seen.begun++
        if (isClosed) seen.late++
      }),
      () => Effect.andThen(Effect.yieldNow, Effect.yieldNow),
      () => Effect.sync(() => void running--)
    )
    const released = Effect.sync(() => {
      isClosed = true
      seen.late += running
    })
    const own = yield* Layer.build(Own.layer())
    const { close, context } = yield* open(workWith(work, released))
    const sending = yield* Effect.andThen(times(budgets.operations, Effect.void), send).pipe(
      Effect.provideContext(Context.merge(own, context)),
      Effect.provideService(MaxOpsBeforeYield, budgets.send),
      Effect.exit,
      Effect.forkChild
    )
    const closing = yield* times(budgets.turns, Effect.yieldNow).pipe(
      Effect.andThen(Effect.suspend(() => {
        seen.waited = running > 0
        return close
      })),
      Effect.provideService(MaxOpsBeforeYield, budgets.close),
      Effect.forkChild
    )
    yield* Fiber.join(closing)
    const exit = yield* Fiber.join(sending)
    return { ...seen, exit }
  })

  for (const [way, [, send]] of Object.entries(ways)) {
    it.effect(
      `F20: nothing starts after the end, which waits for what has begun: ${way}`,
      () =>
        Effect.gen(function*() {
          const outcomes = { begun: 0, refused: 0, waited: 0 }
          for (let ops = 3; ops <= 60; ops++) {
            for (
              // The send yields after every few operations and the close does not, or the other way round, or both do
              const budgets of [
                { send: ops, close: 2048, operations: 0, turns: 0 },
                { send: ops, close: 2048, operations: 1, turns: 4 },
                { send: 2048, close: ops, operations: 0, turns: 8 },
                { send: ops, close: ops, operations: 9, turns: ops % 13 }
              ]
            ) {
              const { begun, exit, late, waited } = yield* race(send, budgets)
              assert.strictEqual(late, 0, JSON.stringify(budgets))
              if (begun > 0) outcomes.begun++
              if (waited) outcomes.waited++
              if (Exit.isSuccess(exit)) continue
              outcomes.refused++
              assert.instanceOf(Cause.squash(exit.cause), EventFlowError.FlowClosed)
            }
          }
          // All of it happens, or it proves nothing
          assert.isAbove(Math.min(...Object.values(outcomes)), 0, JSON.stringify(outcomes))
        }),
      60_000
    )
  }
})

describe("F20: what handlers are given is released after the sends that use it", () => {
  class Resource extends Context.Service<Resource, { readonly isOpen: () => boolean }>()("test/Resource") {}

  const setup = () => {
    const { at, entries } = new Journal()
    const acquired = Effect.acquireRelease(
      Effect.sync(() => {
        let isOpen = true
        return { isOpen: () => isOpen, close: () => (isOpen = false) }
      }),
      ({ close }) => Effect.andThen(Effect.sync(close), at("released"))
    )
    const use = (resource: Resource["Service"]) =>
      Effect.andThen(Effect.sleep(10), Effect.suspend(() => at(resource.isOpen() ? "used" : "USED LATE")))
    const resource = Layer.effect(Resource, acquired)
    class Save extends Command.Class<Save>()("Save", { emits: [Done] }) {}
    class Saving extends EventFlow.make("Saving", { commands: [Save], handlers: [OnDone] }) {}
    const save = Save.toLayer(
      [Resource],
      (_, { collect }) => Effect.andThen(Effect.flatMap(Resource, use), collect(new Done({ n: 1 })))
    )
    const onDone = OnDone.toLayer([Resource], () => Effect.flatMap(Resource, use))
    const building = Layer.mergeAll(
      Save.toLayer(
        Effect.map(
          acquired,
          (resource) => (_, { collect }) => Effect.andThen(use(resource), collect(new Done({ n: 1 })))
        )
      ),
      OnDone.toLayer(Effect.map(acquired, (resource) => () => use(resource)))
    )
    class Audited extends Mediator.Service<Audited>()("test/AuditedClosing", { middleware: [] }) {}
    const other = EventFlow.make("Other", { commands: [Plain] }).layer().pipe(
      Layer.provide(Plain.toLayer(() => Effect.void))
    )
    return {
      at,
      entries,
      send: Mediator.send(new Save()),
      wirings: {
        "acquired where the handler is built": Saving.layer().pipe(Layer.provide(building)),
        "provided to the handlers": Saving.layer().pipe(
          Layer.provide([Layer.provide(save, resource), Layer.provide(onDone, resource)])
        ),
        "provided to the flow": Saving.layer().pipe(Layer.provide([save, onDone]), Layer.provide(resource)),
        "provided to several flows": Layer.merge(
          Saving.layer().pipe(Layer.provide([save, onDone])),
          other
        ).pipe(Layer.provide(resource)),
        "merged into the program": Saving.layer().pipe(Layer.provide([save, onDone]), Layer.provideMerge(resource)),
        "beside a mediator of one's own": Layer.merge(Saving.layer(), Audited.layer()).pipe(
          Layer.provide([save, onDone]),
          Layer.provide(resource)
        ),
        "with parts of one's own implementations merged": Saving.layer().pipe(
          Layer.provideMerge(Layer.merge(save, onDone)),
          Layer.provide(resource)
        )
      }
    }
  }

  for (const wiring of Object.keys(setup().wirings) as Array<keyof ReturnType<typeof setup>["wirings"]>) {
    it.effect(`F20: ${wiring}`, () =>
      Effect.gen(function*() {
        const { at, entries, send, wirings } = setup()
        const { close, context } = yield* open(wirings[wiring])
        const sending = yield* Effect.forkChild(Effect.provideContext(send, context), { startImmediately: true })
        yield* passTime(Effect.andThen(close, at("closed")))
        assert.deepStrictEqual(yield* Fiber.await(sending), Exit.void)
        const released = entries.filter((entry) => entry.startsWith("released")).length
        assert.deepStrictEqual(entries, [
          "used@10",
          "used@20",
          ...Array.from({ length: released }, () => "released@20"),
          "closed@20"
        ])
        assert.isAbove(released, 0)
      }))
  }
})

describe("F20: a program that is interrupted", () => {
  it.effect("F20: drains as one that ends by itself", () =>
    Effect.gen(function*() {
      const { at, entries, work } = new Journal()
      const layer = workWith(work("handler", 10))
      const program = Effect.gen(function*() {
        yield* Effect.forkDetach(Mediator.send(new Plain()), { startImmediately: true })
        return yield* Effect.never
      })
      const fiber = yield* Effect.forkChild(
        Effect.onExit(Effect.provide(program, layer), () => at("closed")),
        { startImmediately: true }
      )
      yield* settle
      yield* passTime(Fiber.interrupt(fiber))
      assert.deepStrictEqual(entries, [
        "handler starts@0",
        "handler ends@10",
        "handler starts@10",
        "handler ends@20",
        "closed@20"
      ])
    }))
})

describe("F20: a stream that is pulled from elsewhere", () => {
  const setup = (options: EventFlow.Options) => {
    const { entries, note } = new Journal()
    const layer = Work.layer(options).pipe(
      Layer.provide([
        Plain.toLayer(() => Effect.void),
        Wrapped.toLayer(() => Effect.void),
        Numbers.toLayer(() => Stream.make(1)),
        Streamed.toLayer((_, { collect }) =>
          Stream.range(1, 100).pipe(
            Stream.rechunk(1),
            Stream.tap((n) => collect(new Done({ n }))),
            Stream.ensuring(note("handler's stream closed"))
          )
        ),
        OnDone.toLayer(({ n }) => note(`event ${n}`))
      ])
    )
    return { entries, note, layer }
  }

  it.live("F20: by an async iterator, ends with its layer", () =>
    Effect.gen(function*() {
      const { entries, layer, note } = setup({ drainTimeout: 0 })
      const { close, context } = yield* open(Layer.provideMerge(layer, new RecordingLogger().layer))
      const elements = Stream.toAsyncIterableWith(Mediator.stream(new Streamed()), context)[Symbol.asyncIterator]()
      assert.deepStrictEqual(yield* Effect.promise(() => elements.next()), { done: false, value: 1 })
      yield* close
      yield* note("closed")
      const next = yield* Effect.promise(() => elements.next().then(() => "an element", () => "rejected"))
      assert.strictEqual(next, "rejected")
      assert.deepStrictEqual(entries, ["event 1", "handler's stream closed", "closed"])
    }))

  it.effect("F20: by a pull, which ends with its layer and hands nothing on", () =>
    Effect.gen(function*() {
      const { entries, layer, note } = setup({ drainTimeout: "1 second" })
      const { close, context } = yield* open(Layer.provideMerge(layer, new RecordingLogger().layer))
      const scope = yield* Scope.make()
      const pull = yield* Stream.toPull(Mediator.stream(new Streamed())).pipe(
        Effect.provideContext(context),
        Scope.provide(scope)
      )
      assert.deepStrictEqual(yield* pull, [1])
      const closing = yield* Effect.forkChild(close, { startImmediately: true })
      yield* settle
      // Until the drain timeout it goes on
      assert.deepStrictEqual(yield* pull, [2])
      yield* adjust("1 second")
      yield* Fiber.join(closing)
      yield* note("closed")
      const exit = yield* Effect.exit(pull)
      assert.isTrue(Exit.hasInterrupts(exit), String(exit))
      yield* Scope.close(scope, Exit.void)
      assert.deepStrictEqual(entries, ["event 1", "event 2", "handler's stream closed", "closed"])
    }))
})
