/** Who waits for whom, and who ends whom: F11, F20. */
import { assert, describe, it } from "@effect/vitest"
import { Command, EventFlow, EventFlowError, Mediator } from "@event-flow/core"
import { Effect, Exit, Fiber, Layer, Schema } from "effect"
import { A, adjust, B, D, Do, flow, Journal, open, passTime, RecordingLogger } from "./fixtures.ts"

describe("F11: interruption", () => {
  for (const concurrency of [1, 3]) {
    it.effect(`F11: interrupting a send interrupts its handlers and waits for them, concurrency ${concurrency}`, () =>
      Effect.gen(function*() {
        const { at, entries, work } = new Journal()
        const layer = flow({
          concurrency,
          events: [new A({}), new A({}), new D({})],
          on: {
            A: () => work("A", 100).pipe(Effect.onInterrupt(() => Effect.andThen(Effect.sleep(20), at("cleaned up")))),
            A2: () => at("A2"),
            D: () => work("D", 100)
          }
        })
        const send = Mediator.send(new Do()).pipe(Effect.onExit(() => at("send ends")), Effect.provide(layer))
        const fiber = yield* Effect.forkChild(send, { startImmediately: true })
        yield* adjust(10)
        const exit = yield* passTime(Effect.andThen(Fiber.interrupt(fiber), Fiber.await(fiber)))
        assert.isTrue(Exit.isSuccess(exit) && Exit.hasInterrupts(exit.value))
        assert.deepStrictEqual(
          entries,
          concurrency === 1
            ? ["A starts@0", "A interrupted@10", "cleaned up@30", "send ends@30"]
            : [
              "A starts@0",
              "A starts@0",
              "D starts@0",
              "A interrupted@10",
              "A interrupted@10",
              "D interrupted@10",
              "cleaned up@30",
              "cleaned up@30",
              "send ends@30"
            ]
        )
      }))

    it.effect(`F11: so does a timeout around it, concurrency ${concurrency}`, () =>
      Effect.gen(function*() {
        const { entries, work } = new Journal()
        const layer = flow({ concurrency, events: [new A({}), new B({})], on: { A: () => work("A", 100) } })
        const exit = yield* passTime(Mediator.send(new Do()).pipe(Effect.timeout(10), Effect.provide(layer)))
        assert.isTrue(Exit.isFailure(exit))
        assert.deepStrictEqual(entries, ["A starts@0", "A interrupted@10"])
      }))
  }

  it.effect("F11: interrupting a send interrupts the command's handler", () =>
    Effect.gen(function*() {
      const { entries, work } = new Journal()
      const layer = flow({ command: () => Effect.as(work("command", 100), "") })
      yield* passTime(Mediator.send(new Do()).pipe(Effect.timeout(10), Effect.ignore, Effect.provide(layer)))
      assert.deepStrictEqual(entries, ["command starts@0", "command interrupted@10"])
    }))

  it.effect("F11: an uninterruptible send is done to its end", () =>
    Effect.gen(function*() {
      const { entries, work } = new Journal()
      const layer = flow({ concurrency: 2, events: [new A({})], on: { A: () => work("A", 100) } })
      yield* passTime(
        Mediator.send(new Do()).pipe(Effect.uninterruptible, Effect.timeout(10), Effect.ignore, Effect.provide(layer))
      )
      assert.deepStrictEqual(entries, ["A starts@0", "A ends@100"])
    }))
})

describe("F11: closing the layer's scope", () => {
  const closed = new EventFlowError.FlowClosed({ flow: "TestFlow", command: "Do" })

  for (const concurrency of [1, 3]) {
    it.effect(`F11: waits for a running send, concurrency ${concurrency}`, () =>
      Effect.gen(function*() {
        const { at, entries, work } = new Journal()
        const { close, context } = yield* open(flow({
          concurrency,
          events: [new A({})],
          on: { A: (_, { collect }) => Effect.andThen(work("A", 10), collect(new B({}))), B: () => work("B", 10) }
        }))
        const sending = yield* Effect.forkChild(Effect.provideContext(Mediator.send(new Do()), context), {
          startImmediately: true
        })
        yield* passTime(Effect.andThen(close, at("closed")))
        assert.deepStrictEqual(yield* Fiber.await(sending), Exit.succeed("done"))
        assert.deepStrictEqual(entries, ["A starts@0", "A ends@10", "B starts@10", "B ends@20", "closed@20"])
      }))

    it.effect(`F11: interrupts it after the drain timeout and waits for its end, concurrency ${concurrency}`, () =>
      Effect.gen(function*() {
        const { at, entries, work } = new Journal()
        const logger = new RecordingLogger()
        const { close, context } = yield* open(flow({
          concurrency,
          drainTimeout: "1 second",
          events: [new A({})],
          on: {
            A: () =>
              work("A", 1_000_000).pipe(Effect.onInterrupt(() => Effect.andThen(Effect.sleep(50), at("cleaned"))))
          }
        }))
        const sending = yield* Effect.forkChild(Effect.provideContext(Mediator.send(new Do()), context), {
          startImmediately: true
        })
        yield* passTime(Effect.andThen(close, at("closed")).pipe(Effect.provide(logger.layer)))
        assert.isTrue(Exit.hasInterrupts(yield* Fiber.await(sending)))
        assert.deepStrictEqual(entries, ["A starts@0", "A interrupted@1000", "cleaned@1050", "closed@1050"])
        assert.match(logger.entries[0]!, /^Warn 1 command\(s\) of flow "TestFlow" did not end before its drain timeout/)
      }))
  }

  it.effect("F11: the drain timeout is 30 seconds by default", () =>
    Effect.gen(function*() {
      const { at, entries } = new Journal()
      const { close, context } = yield* open(flow({ command: () => Effect.never }))
      yield* Effect.forkChild(Effect.provideContext(Mediator.send(new Do()), context), { startImmediately: true })
      yield* passTime(Effect.andThen(close, at("closed")).pipe(Effect.provide(new RecordingLogger().layer)))
      assert.deepStrictEqual(entries, ["closed@30000"])
    }))

  it.effect("F11, F20: waits for several; what is sent after the last one has ended does not start", () =>
    Effect.gen(function*() {
      const { at, entries } = new Journal()
      let sent = 0
      const { close, context } = yield* open(flow({
        command: () => {
          const millis = ++sent * 10
          return Effect.as(Effect.sleep(millis), `slept ${millis}`)
        }
      }))
      const send = Effect.provideContext(Mediator.send(new Do()), context)
      yield* Effect.forkChild(send, { startImmediately: true })
      const next = yield* Effect.forkChild(Effect.andThen(send, send), { startImmediately: true })
      yield* passTime(Effect.andThen(close, at("closed")))
      assert.deepStrictEqual(entries, ["closed@20"])
      assert.deepStrictEqual(yield* Fiber.await(next), Exit.die(closed))
      assert.strictEqual(sent, 2)
    }))

  it.effect("F11: what a running handler sends meanwhile is waited for too", () =>
    Effect.gen(function*() {
      const { at, entries } = new Journal()
      class Outer extends Command.Class<Outer>()("Outer", { success: Schema.String, sends: [Do] }) {}
      const { close, context } = yield* open(
        EventFlow.make("Outside", { commands: [Outer] }).layer().pipe(
          Layer.provide(
            Outer.toLayer(() => Effect.andThen(Effect.sleep(10), Effect.orDie(Mediator.send(new Do()))))
          ),
          Layer.provide(flow({ events: [new A({})], on: { A: () => Effect.sleep(10) } }))
        )
      )
      const fiber = yield* Effect.forkChild(Effect.provideContext(Mediator.send(new Outer()), context), {
        startImmediately: true
      })
      yield* passTime(Effect.andThen(close, at("closed")))
      assert.deepStrictEqual(yield* Fiber.await(fiber), Exit.succeed("done"))
      assert.deepStrictEqual(entries, ["closed@20"])
    }))

  it.effect("F11: does not wait for a send that has succeeded, failed or been interrupted", () =>
    Effect.gen(function*() {
      const { at, entries } = new Journal()
      let outcome: Effect.Effect<string> = Effect.succeed("")
      const { close, context } = yield* open(flow({ command: () => outcome }))
      const send = Effect.provideContext(Mediator.send(new Do()), context)
      yield* send
      outcome = Effect.die("bug")
      yield* Effect.exit(send)
      outcome = Effect.interrupt
      yield* Effect.exit(send)
      outcome = Effect.never
      yield* passTime(Effect.exit(Effect.timeout(send, 10)), 10)
      const fiber = yield* Effect.forkChild(send, { startImmediately: true })
      yield* Fiber.interrupt(fiber)
      yield* passTime(Effect.andThen(close, at("closed")))
      assert.deepStrictEqual(entries, ["closed@10"])
    }))

  it.effect("F20: a send after the end runs no handler and dies with an error that names flow and command", () =>
    Effect.gen(function*() {
      const { entries, note } = new Journal()
      const { close, context } = yield* open(flow({ command: () => Effect.as(note("ran"), "") }))
      yield* close
      const exit = yield* Effect.exit(Effect.provideContext(Mediator.send(new Do()), context))
      assert.deepStrictEqual(exit, Exit.die(closed))
      assert.strictEqual(
        closed.message,
        "Command \"Do\" was sent after flow \"TestFlow\" was closed: " +
          "provide the flow to what sends, so that it is closed later"
      )
      assert.deepStrictEqual(entries, [])
    }))

  it.effect("F11: a send that closes the layer itself does not wait for itself", () =>
    Effect.gen(function*() {
      const { at, entries } = new Journal()
      let closing: Effect.Effect<void> = Effect.void
      const { close, context } = yield* open(flow({ command: () => Effect.as(Effect.suspend(() => closing), "done") }))
      closing = close
      yield* passTime(
        Mediator.send(new Do()).pipe(Effect.tap((answer) => at(answer)), Effect.provideContext(context))
      )
      assert.deepStrictEqual(entries, ["done@0"])
    }))

  it.effect("F11: a send that closes the layer waits for the others", () =>
    Effect.gen(function*() {
      const { at, entries } = new Journal()
      const behaviour: Array<Effect.Effect<string>> = []
      const { close, context } = yield* open(flow({ command: () => behaviour.shift()! }))
      behaviour.push(Effect.as(Effect.sleep(10), "other"), Effect.as(close, "closer"))
      const send = Mediator.send(new Do()).pipe(
        Effect.tap((answer) => at(answer)),
        Effect.provideContext(context)
      )
      yield* passTime(Effect.all([send, send], { concurrency: 2 }))
      assert.deepStrictEqual(entries.sort(), ["closer@10", "other@10"])
    }))
})
