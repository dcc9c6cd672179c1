/** What is collected, by whom and until when: F16. */
import { assert, describe, it } from "@effect/vitest"
import { Broker, EventProcessor, Mediator } from "@event-flow/core"
import { Cause, Effect, Exit, Fiber, Layer } from "effect"
import {
  A,
  adjust,
  type AnyEvent,
  B,
  C,
  Do,
  flow,
  implementations,
  Journal,
  partsOf,
  passTime,
  settle,
  TestFlow
} from "./fixtures.ts"

describe("F16: collections", () => {
  for (const concurrency of [1, 3]) {
    it.effect(`F16: the list that is processed is not mutated, concurrency ${concurrency}`, () =>
      Effect.gen(function*() {
        let runs = 0
        const events: ReadonlyArray<AnyEvent> = Object.freeze([new A({}), new A({})])
        const Twice = Layer.effect(
          EventProcessor.EventProcessor,
          EventProcessor.EventProcessor.useSync(({ process }) => ({
            process: () => Effect.andThen(process(events), process(events))
          }))
        )
        const layer = partsOf(TestFlow, { processor: Twice }, { concurrency }).pipe(
          Layer.provide(implementations({
            events: [new C({})],
            on: { A: (_, { collect }) => collect(new B({})), B: () => Effect.sync(() => runs++) }
          })),
          Layer.provide(Broker.layerNone)
        )
        yield* Mediator.send(new Do()).pipe(Effect.provide(layer))
        assert.strictEqual(runs, 4)
        assert.deepStrictEqual(events, [new A({}), new A({})])
      }))

    it.effect(`F16: the list may change while it is processed, concurrency ${concurrency}`, () =>
      Effect.gen(function*() {
        const { entries, note } = new Journal()
        const list: Array<AnyEvent> = [new A({ id: "1" }), new A({ id: "2" })]
        const layer = flow({
          concurrency,
          command: (_, { collectAll }) => Effect.as(collectAll(list), "done"),
          on: {
            A: ({ id }) => Effect.andThen(note(id!), Effect.sync(() => void list.push(new A({ id: "late" }))))
          }
        })
        yield* Mediator.send(new Do()).pipe(Effect.provide(layer))
        assert.deepStrictEqual(entries, ["1", "2"])
      }))

    it.effect(`F16: the follow-ups are those of one call, concurrency ${concurrency}`, () =>
      Effect.gen(function*() {
        const { entries, note } = new Journal()
        const layer = flow({
          concurrency,
          events: [new A({ id: "1" }), new A({ id: "2" })],
          on: {
            // Both calls are under way when either collects
            A: ({ id }, { collect }) => collect(new B({ id: id! })).pipe(Effect.delay(id === "1" ? 20 : 10)),
            A2: (_, { collectAll }) => collectAll([]),
            B: ({ id }) => note(id!)
          }
        })
        const sends = Effect.all([Mediator.send(new Do()), Mediator.send(new Do())], { concurrency: 2 })
        yield* passTime(Effect.provide(sends, layer))
        assert.deepStrictEqual(entries.sort(), ["1", "1", "2", "2"])
      }))
  }

  it.effect("F16: collect is lazy and can be repeated, as every Effect", () =>
    Effect.gen(function*() {
      const { entries, note } = new Journal()
      const layer = flow({
        command: (_, { collect }) => {
          void collect(new A({ id: "dropped" }))
          return Effect.as(Effect.repeat(collect(new A({ id: "repeated" })), { times: 2 }), "")
        },
        on: { A: ({ id }) => note(id!) }
      })
      yield* Mediator.send(new Do()).pipe(Effect.provide(layer))
      assert.deepStrictEqual(entries, ["repeated", "repeated", "repeated"])
    }))

  const message = (event: string) =>
    `Event "${event}" was collected after its handler had ended: join the fiber that collects it`

  const isTooLate = (exit: Exit.Exit<void>, event: string): void => {
    assert.isTrue(Exit.isFailure(exit))
    if (!Exit.isFailure(exit)) return
    const defects = exit.cause.reasons.filter(Cause.isDieReason).map((reason) => (reason.defect as Error).message)
    assert.deepStrictEqual(defects, [message(event)])
  }

  const outcomes: Record<string, Effect.Effect<void>> = {
    succeeded: Effect.void,
    died: Effect.die("bug"),
    "interrupted itself": Effect.interrupt
  }
  for (const [name, outcome] of Object.entries(outcomes)) {
    it.effect(`F16: collecting from a fiber that outlives a command's handler that ${name} is a defect`, () =>
      Effect.gen(function*() {
        let late: Fiber.Fiber<void> | undefined
        const layer = flow({
          command: Effect.fnUntraced(function*(_, { collect }) {
            late = yield* Effect.forkDetach(Effect.delay(collect(new A({})), 10))
            yield* outcome
            return "done"
          })
        })
        yield* Effect.exit(Mediator.send(new Do()).pipe(Effect.provide(layer)))
        yield* adjust(10)
        isTooLate(yield* Fiber.await(late!), "A")
      }))

    for (const concurrency of [1, 3]) {
      it.effect(`F16: the same of an event's handler that ${name}, concurrency ${concurrency}`, () =>
        Effect.gen(function*() {
          let late: Fiber.Fiber<void> | undefined
          const layer = flow({
            concurrency,
            events: [new A({})],
            on: {
              A: Effect.fnUntraced(function*(_, { collectAll }) {
                late = yield* Effect.forkDetach(Effect.delay(collectAll([new B({})]), 10))
                yield* outcome
              })
            }
          })
          yield* Effect.exit(Mediator.send(new Do()).pipe(Effect.provide(layer)))
          yield* adjust(10)
          isTooLate(yield* Fiber.await(late!), "B")
        }))
    }
  }

  it.effect("F16: the same of a handler that was interrupted from outside", () =>
    Effect.gen(function*() {
      const late: Array<Fiber.Fiber<void>> = []
      const forkLate = (collect: Effect.Effect<void>) =>
        Effect.andThen(
          Effect.forkDetach(Effect.delay(collect, 20)).pipe(Effect.tap((fiber) => Effect.sync(() => late.push(fiber)))),
          Effect.never
        )
      const inCommand = flow({ command: (_, { collect }) => forkLate(collect(new A({}))) })
      const inEvent = flow({ events: [new A({})], on: { A: (_, { collect }) => forkLate(collect(new B({}))) } })
      for (const layer of [inCommand, inEvent]) {
        const fiber = yield* Effect.forkChild(Mediator.send(new Do()).pipe(Effect.provide(layer)), {
          startImmediately: true
        })
        yield* settle
        yield* Fiber.interrupt(fiber)
      }
      yield* adjust(20)
      isTooLate(yield* Fiber.await(late[0]!), "A")
      isTooLate(yield* Fiber.await(late[1]!), "B")
    }))

  it.effect("F16: a fiber that the handler joins may collect", () =>
    Effect.gen(function*() {
      const { entries, note } = new Journal()
      const layer = flow({
        command: (_, { collect }) =>
          Effect.forEach(["1", "2", "3"], (id) => collect(new A({ id })), { concurrency: 3 }).pipe(Effect.as("")),
        on: { A: ({ id }) => note(id!) }
      })
      yield* Mediator.send(new Do()).pipe(Effect.provide(layer))
      assert.deepStrictEqual(entries, ["1", "2", "3"])
    }))
})
