/** Long chains of follow-ups, and cycles: F10. */
import { assert, describe, it } from "@effect/vitest"
import { Command, DomainEvent, EventFlow, EventHandler, Mediator, Middleware } from "@event-flow/core"
import { Deferred, Effect, Exit, Layer, Option, Schema, Stream } from "effect"
import { setFlagsFromString } from "node:v8"
import { runInNewContext } from "node:vm"
import { A, B, D, Do, flow } from "./fixtures.ts"

const gc = (() => {
  setFlagsFromString("--expose-gc")
  return runInNewContext("gc") as () => void
})()

/** A WeakRef keeps what it refers to until the job in which it was made has ended. */
const nextJob = Effect.callback<void>((resume) => void setImmediate(() => resume(Effect.void)))

describe("F10: long chains and cycles", () => {
  class Step extends DomainEvent.Class<Step>()("Step", { left: Schema.Int }) {}
  const OnStep = EventHandler.make("OnStep", { on: Step, emits: [Step] })
  class Walk extends Command.Class<Walk>()("Walk", { payload: { steps: Schema.Int }, emits: [Step] }) {}
  class Walking extends EventFlow.make("Walking", { commands: [Walk], handlers: [OnStep] }) {}
  const WalkLive = Walk.toLayer(({ steps }, { collect }) => collect(new Step({ left: steps })))

  // How many continuations wait in the running fiber: not part of effect's API, and the very thing to be constant
  const pendingFrames = Effect.withFiber((fiber) =>
    Effect.succeed((fiber as unknown as { readonly _stack: ReadonlyArray<unknown> })._stack.length)
  )

  const length = 1_000_000
  const remembered = 1000

  for (const concurrency of [1, 4]) {
    it.live(
      `F10: a chain of a million in constant stack and memory, concurrency ${concurrency}`,
      () =>
        Effect.gen(function*() {
          const frames: Array<number> = []
          const early: Array<WeakRef<Step>> = []
          let steps = 0
          let alive = -1
          const layer = Walking.layer({ concurrency, maxDepth: Number.MAX_SAFE_INTEGER }).pipe(
            Layer.provide(WalkLive),
            Layer.provide(OnStep.toLayer(Effect.fnUntraced(function*(step, { collect }) {
              steps++
              if (early.length < remembered) early.push(new WeakRef(step))
              if (step.left % 100_000 === 0) frames.push(yield* pendingFrames)
              if (step.left === 2) {
                yield* nextJob
                gc()
                alive = early.filter((reference) => reference.deref() !== undefined).length
              }
              if (step.left > 1) yield* collect(new Step({ left: step.left - 1 }))
            })))
          )
          yield* Mediator.send(new Walk({ steps: length })).pipe(Effect.provide(layer))
          assert.strictEqual(steps, length)
          assert.strictEqual(new Set(frames).size, 1, `frames: ${frames}`)
          // The one that the command collected
          assert.strictEqual(alive, 1, `${alive} of the first ${remembered} events are still held`)
        }),
      60_000
    )
  }

  for (const concurrency of [1, 3]) {
    for (const onFailure of ["failFast", "accumulate", "log"] as const) {
      it.effect(`F10: a cycle ends in CascadeTooDeep, concurrency ${concurrency}, ${onFailure}`, () =>
        Effect.gen(function*() {
          let runs = 0
          const layer = flow({
            concurrency,
            onFailure,
            maxDepth: 7,
            events: [new A({}), new D({})],
            on: {
              A: (_, { collect }) => Effect.andThen(Effect.sync(() => runs++), collect(new B({}))),
              B: (_, { collect }) => Effect.andThen(Effect.sync(() => runs++), collect(new A({})))
            }
          })
          const exit = yield* Effect.exit(Mediator.send(new Do()).pipe(Effect.provide(layer)))
          // The command's own event is at depth 0, so depths 0 to 7 run
          assert.strictEqual(runs, 8)
          if (onFailure === "log") return assert.deepStrictEqual(exit, Exit.succeed("done"))
          const error = Option.getOrThrow(Exit.findErrorOption(exit))
          const tooDeep = error._tag === "EventsFailed" ? error.failures[0] : error
          assert.strictEqual(tooDeep._tag, "CascadeTooDeep")
          if (tooDeep._tag !== "CascadeTooDeep") return
          assert.strictEqual(tooDeep.event, "A")
          assert.strictEqual(tooDeep.maxDepth, 7)
          assert.include(tooDeep.message, "FlowGraph")
        }))
    }

    it.effect(`F10: 1000 follow-ups are allowed by default, one more is too deep, concurrency ${concurrency}`, () =>
      Effect.gen(function*() {
        const walk = (steps: number) =>
          Mediator.send(new Walk({ steps })).pipe(
            Effect.provide(
              Walking.layer({ concurrency }).pipe(
                Layer.provide(WalkLive),
                Layer.provide(
                  OnStep.toLayer(({ left }, { collect }) =>
                    left === 0 ? Effect.void : collect(new Step({ left: left - 1 }))
                  )
                )
              )
            )
          )
        assert.isTrue(Exit.isSuccess(yield* Effect.exit(walk(1000))))
        const error = yield* Effect.flip(walk(1001))
        assert.strictEqual(error._tag, "CascadeTooDeep")
      }))
  }

  it.effect("F10: a wide and deep tree in parallel does not take the stack", () =>
    Effect.gen(function*() {
      let runs = 0
      const layer = Walking.layer({ concurrency: "unbounded" }).pipe(
        Layer.provide(WalkLive),
        Layer.provide(OnStep.toLayer(({ left }, { collectAll }) => {
          runs++
          return left === 0 ? Effect.void : collectAll([new Step({ left: left - 1 }), new Step({ left: left - 1 })])
        }))
      )
      yield* Mediator.send(new Walk({ steps: 13 })).pipe(Effect.provide(layer))
      assert.strictEqual(runs, 2 ** 14 - 1)
    }))
})

describe("a command that forks its successor keeps nothing of its predecessors", () => {
  class Ended extends DomainEvent.Class<Ended>()("Ended", { left: Schema.Int }) {}
  const payload = { left: Schema.Int }
  class Plain extends Command.Class<Plain>()("Plain", { payload }) {}
  class Logged extends Command.Class<Logged>()("Logged", { payload, middleware: [Middleware.logging] }) {}
  class Eventful extends Command.Class<Eventful>()("Eventful", { payload, emits: [Ended] }) {}
  class Streamed extends Command.Class<Streamed>()("Streamed", { payload, success: Schema.Void, stream: true }) {}
  const OnEnded = EventHandler.make("OnEnded", { on: Ended, sends: [Eventful] })
  class Chain extends EventFlow.make("Chain", {
    commands: [Plain, Logged, Eventful, Streamed],
    handlers: [OnEnded]
  }) {}
  type Sent = Command.Flows<"Plain" | "Logged" | "Eventful" | "Streamed">

  const ways: Record<string, (left: number) => Effect.Effect<unknown, unknown, Sent>> = {
    send: (left) => Mediator.send(new Plain({ left })),
    "middleware around it": (left) => Mediator.send(new Logged({ left })),
    "an event handler": (left) => Mediator.send(new Eventful({ left })),
    stream: (left) => Stream.runDrain(Mediator.stream(new Streamed({ left })))
  }
  for (const [way, send] of Object.entries(ways)) {
    for (const concurrency of [1, 3]) {
      it.live(`${way}, concurrency ${concurrency}`, () =>
        Effect.gen(function*() {
          const contexts: Array<WeakRef<object>> = []
          const ended = yield* Deferred.make<void>()
          // For every handler: the flow has all that it sends
          const next = <R>({ left }: { readonly left: number }) =>
            Effect.withFiber((fiber) => {
              contexts.push(new WeakRef(fiber.context))
              return left === 0 ? end : fork(left)
            }) as Effect.Effect<void, never, R>
          const end: Effect.Effect<void> = Effect.asVoid(
            Deferred.complete(ended, Effect.andThen(nextJob, Effect.sync(gc)))
          )
          const fork = (left: number): Effect.Effect<void, never, Sent> =>
            Effect.asVoid(Effect.forkDetach(Effect.andThen(nextJob, send(left - 1))))
          const layer = Chain.layer({ concurrency }).pipe(
            Layer.provide([
              Plain.toLayer(next),
              Logged.toLayer(next),
              Eventful.toLayer(({ left }, { collect }) => collect(new Ended({ left }))),
              Streamed.toLayer((command) => Stream.fromEffect(next(command))),
              OnEnded.toLayer(next)
            ])
          )
          yield* Effect.andThen(send(200), Deferred.await(ended)).pipe(Effect.provide(layer))
          assert.strictEqual(contexts.length, 201)
          const alive = contexts.filter((context) => context.deref() !== undefined).length
          // The handlers' own caches and the fiber that has just ended may hold some
          assert.isBelow(alive, 10, `${alive} contexts are still held`)
        }))
    }
  }
})
