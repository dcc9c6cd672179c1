/** Expectations of what a tracked run has recorded. */
import { assert, describe, it } from "@effect/vitest"
import { Mediator } from "@event-flow/core"
import { Expect, Flow, Tracker } from "@event-flow/core/testing"
import { Effect } from "effect"
import { Announced, Count, Greet, GreetingSent, Join, Thank, tracked, UserJoined } from "./support.ts"

const throws = (run: () => void): Expect.ExpectationFailed => {
  try {
    run()
  } catch (error) {
    assert.instanceOf(error, Expect.ExpectationFailed)
    return error as Expect.ExpectationFailed
  }
  throw new Error("the expectation held")
}

describe("Expect", () => {
  const joined = Effect.map(Tracker.run(Mediator.send(new Join({ userId: "u" }))), ({ flow }) => flow).pipe(
    Effect.provide(tracked)
  )

  it.effect("exactly: classes, instances, predicates and handlers, in order", () =>
    Effect.gen(function*() {
      const flow = yield* joined
      Expect.exactly(flow, {
        commands: [Join],
        events: [UserJoined, new Announced({ id: "m-u" }), Expect.where(GreetingSent, (event) => event.userId === "u")],
        followUps: [GreetingSent],
        handlers: [Greet, Count, Thank],
        published: [Announced],
        consumed: []
      })
      Expect.exactly(flow, { commands: [new Join({ userId: "u" })] })
      throws(() => Expect.exactly(flow, { commands: [new Join({ userId: "other" })] }))
      throws(() => Expect.exactly(flow, { events: [UserJoined, GreetingSent, Announced] }))
      throws(() => Expect.exactly(flow, { events: [UserJoined, Announced] }))
      throws(() => Expect.exactly(flow, { events: [] }))
      throws(() => Expect.exactly(flow, { published: [Expect.where(Announced, (event) => event.id === "x")] }))
      throws(() => Expect.exactly(flow, { handlers: [Greet, Thank, Count] }))
    }))

  it.effect("in any order", () =>
    Effect.gen(function*() {
      const flow = yield* joined
      const any = { order: "any" } as const
      Expect.exactly(flow, { handlers: [Thank, Greet, Count] }, any)
      Expect.includes(flow, { handlers: [Thank, Greet] }, any)
      throws(() => Expect.exactly(flow, { handlers: [Thank, Greet] }, any))
      throws(() => Expect.exactly(flow, { handlers: [Thank, Greet, Greet] }, any))
      throws(() => Expect.includes(flow, { handlers: [Greet, Greet] }, any))
    }))

  it.effect("in any order: an item that matches much leaves the one to the item that needs it", () =>
    Effect.gen(function*() {
      const { flow } = yield* Tracker.run(
        Effect.andThen(Mediator.send(new Join({ userId: "a" })), Mediator.send(new Join({ userId: "b" })))
      ).pipe(Effect.provide(tracked))
      Expect.exactly(flow, { commands: [Join, new Join({ userId: "a" })] }, { order: "any" })
      throws(() => Expect.exactly(flow, { commands: [new Join({ userId: "a" }), new Join({ userId: "a" })] }))
    }))

  it.effect("includes: among others, in order", () =>
    Effect.gen(function*() {
      const flow = yield* joined
      Expect.includes(flow, { events: [UserJoined, GreetingSent], handlers: [Greet, Thank] })
      Expect.includes(flow, { events: [], published: [Announced] })
      throws(() => Expect.includes(flow, { events: [GreetingSent, UserJoined] }))
      throws(() => Expect.includes(flow, { events: [UserJoined, UserJoined] }))
      throws(() => Expect.includes(flow, { consumed: [Announced] }))
    }))

  it.effect("only: nothing of the kinds that are not named", () =>
    Effect.gen(function*() {
      const { flow } = yield* Tracker.run(Effect.exit(Mediator.send(new Join({ userId: "late" })))).pipe(
        Effect.provide(tracked)
      )
      Expect.only(flow, { commands: [Join] })
      throws(() => Expect.only(flow, {}))
      const joinedFlow = yield* joined
      throws(() => Expect.only(joinedFlow, { commands: [Join] }))
    }))

  it.effect("a failing expectation says what was expected, what there was, and prints the flow", () =>
    Effect.gen(function*() {
      const flow = yield* joined
      const error = throws(() => Expect.exactly(flow, { events: [UserJoined, new GreetingSent({ userId: "x" })] }))
      assert.strictEqual(
        error.message,
        `The events are not the expected ones (exactly, in this order)
Expected:
  UserJoined
  GreetingSent {"userId":"x"}
Actual:
  UserJoined {"userId":"u"}
  Announced {"id":"m-u"}
  GreetingSent {"userId":"u"}
Flow:
  ✓ Join {"userId":"u"}
  ├─ • UserJoined {"userId":"u"}
  │  ├─ ✓ Greet
  │  │  └─ • GreetingSent {"userId":"u"}
  │  │     └─ ✓ Thank
  │  └─ ✓ Count
  └─ • Announced {"id":"m-u"}
     └─ ✓ published to "meetings" with key "m-u"`
      )
      assert.deepStrictEqual(error.expected, ["UserJoined", "GreetingSent {\"userId\":\"x\"}"])
      assert.strictEqual(error.flow, flow)
      const empty = throws(() => Expect.exactly(flow, { consumed: [Expect.where(Announced, (e) => e.id === "")] }))
      assert.include(empty.message, "Expected:\n  Announced where (e) => e.id === \"\"\nActual:\n  (none)\nFlow:")
    }))

  it.effect("noFailures", () =>
    Effect.gen(function*() {
      const flow = yield* joined
      Expect.noFailures(flow)
      const failed = yield* Tracker.run(Mediator.send(new Join({ userId: "late" }))).pipe(Effect.provide(tracked))
      const error = throws(() => Expect.noFailures(failed.flow))
      assert.include(error.message, "The flow has failures")
      assert.include(error.message, "Actual:\n  ✗ Join {\"userId\":\"late\"}: Full: m is full")
    }))

  it("an empty flow has a tree too", () => {
    assert.strictEqual(Flow.toTree(new Flow.Flow([])), "(nothing happened)")
  })
})
