/** What the error of a handler says of its cause. */
import { assert, describe, it } from "@effect/vitest"
import { Command, EventFlow, EventFlowError, EventHandler, Mediator } from "@event-flow/core"
import { Effect, Layer, Schema } from "effect"
import { A, RecordingLogger } from "./fixtures.ts"

describe("the message of an EventHandlerError", () => {
  const circular: { self?: unknown } = {}
  circular.self = circular
  const throwing = {
    get _tag(): string {
      throw new Error("a getter with a bug")
    }
  }
  const proxy = new Proxy({}, {
    get: () => {
      throw new Error("a proxy with a bug")
    },
    has: () => {
      throw new Error("a proxy with a bug")
    },
    getPrototypeOf: () => {
      throw new Error("a proxy with a bug")
    }
  })
  const causes: ReadonlyArray<readonly [string, unknown, string]> = [
    ["a structure", { amount: 1, list: ["a"] }, "{\"amount\":1,\"list\":[\"a\"]}"],
    ["a structure without a JSON form", { amount: 1n }, "{\"amount\":1n}"],
    ["a circular structure", circular, "{\"self\":[Circular]}"],
    ["what has no text", Object.create(null), "{}"],
    ["a getter that throws", throwing, "(an error that cannot be described)"],
    ["a proxy that throws", proxy, "(an error that cannot be described)"],
    ["an error without a message", new TypeError(), "TypeError"],
    ["a symbol", Symbol("s"), "Symbol(s)"],
    ["nothing", undefined, "undefined"]
  ]
  for (const [name, cause, described] of causes) {
    it(`tells of any cause, and never throws: ${name}`, () => {
      // A schema class would look into the cause
      const error: EventFlowError.EventHandlerError = Object.create(EventFlowError.EventHandlerError.prototype, {
        event: { value: "A" },
        handler: { value: "OnA" },
        cause: { value: cause }
      })
      assert.strictEqual(error.message, `Handler "OnA" of event "A" failed: ${described}`)
    })
  }

  it.effect("an error without a JSON form is logged like any other", () =>
    Effect.gen(function*() {
      const Fails = EventHandler.make("Fails", { on: A, error: Schema.Struct({ amount: Schema.BigInt }) })
      class Emit extends Command.Class<Emit>()("Emit", { emits: [A] }) {}
      const logger = new RecordingLogger()
      yield* Mediator.send(new Emit()).pipe(
        Effect.provide(
          EventFlow.make("Failing", { commands: [Emit], handlers: [Fails] }).layer({ onFailure: "log" }).pipe(
            Layer.provide(Emit.toLayer((_, { collect }) => collect(new A({})))),
            Layer.provide(Fails.toLayer(() => Effect.fail({ amount: 1n }))),
            Layer.provideMerge(logger.layer)
          )
        )
      )
      assert.deepStrictEqual(logger.entries, ["Error Handler \"Fails\" of event \"A\" failed: {\"amount\":1n}"])
    }))
})
