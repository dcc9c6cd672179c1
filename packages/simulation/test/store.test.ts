/** The store: what a transaction sees, what it waits for, and what is left of it. */
import { assert, describe, it } from "@effect/vitest"
import { Store } from "@event-flow/simulation"
import { Cause, Effect, Exit } from "effect"
import { alone } from "./support/alone.ts"

const Accounts = Store.table<number>("accounts")
const Notes = Store.table<{ readonly text: string; readonly tags: ReadonlyArray<string> }>("notes")

const reason = (exit: Exit.Exit<unknown, unknown> | undefined): unknown =>
  exit !== undefined && Exit.isFailure(exit) ? (Cause.squash(exit.cause) as { reason?: unknown }).reason : exit

describe("a transaction", () => {
  it("is there for others when it is committed, and for itself at once", () => {
    const { fork, settle } = alone()
    const inside = fork(Store.transaction(Effect.gen(function*() {
      yield* Accounts.put("a", 1)
      yield* Effect.sleep(100)
      return [yield* Accounts.get("a"), yield* Accounts.all]
    })))
    const before = fork(Effect.delay(Accounts.get("a"), 50))
    const after = fork(Effect.delay(Accounts.get("a"), 150))
    settle()
    assert.deepStrictEqual(inside.exit, Exit.succeed([1, [["a", 1]]]))
    assert.deepStrictEqual([before.exit, after.exit], [Exit.succeed(undefined), Exit.succeed(1)])
  })

  it("leaves nothing when it fails, dies or is interrupted", () => {
    const { fork, settle } = alone()
    const ends: ReadonlyArray<Effect.Effect<never, string>> = [
      Effect.fail("no"),
      Effect.die("no"),
      Effect.interrupt
    ]
    for (const [i, end] of ends.entries()) fork(Store.transaction(Effect.andThen(Accounts.put(String(i), 1), end)))
    settle()
    const rows = fork(Accounts.all)
    settle()
    assert.deepStrictEqual(rows.exit, Exit.succeed([]))
  })

  it("goes back to a savepoint when an inner one fails and the outer recovers", () => {
    const { fork, settle } = alone()
    const rows = fork(Effect.andThen(
      Store.transaction(Effect.gen(function*() {
        yield* Accounts.put("a", 1)
        yield* Effect.ignore(Store.transaction(Effect.andThen(Accounts.put("a", 2), Effect.fail("no"))))
        yield* Store.transaction(Accounts.put("b", 3))
      })),
      Accounts.all
    ))
    settle()
    assert.deepStrictEqual(rows.exit, Exit.succeed([["a", 1], ["b", 3]]))
  })

  it("waits for who has the row, and then sees what that one wrote", () => {
    const { fork, settle, world } = alone()
    fork(Store.transaction(Effect.andThen(Accounts.put("a", 1), Effect.sleep(100))))
    const next = fork(Effect.delay(
      Effect.flatMap(
        Store.transaction(Accounts.update("a", (n = 0) => n + 1)),
        (n) => Effect.sync(() => [n, world.loop.now])
      ),
      10
    ))
    const locked = fork(Effect.delay(Store.transaction(Accounts.lock("a")), 20))
    settle()
    assert.deepStrictEqual(next.exit, Exit.succeed([2, 100]))
    assert.deepStrictEqual(locked.exit, Exit.succeed(2))
  })

  it("that is interrupted while it waits lets the next one have the row", () => {
    const { fork, settle } = alone()
    fork(Store.transaction(Effect.andThen(Accounts.put("a", 1), Effect.sleep(100))))
    fork(Effect.delay(Effect.timeoutOption(Store.transaction(Accounts.put("a", 2)), 20), 10))
    const third = fork(Effect.delay(Store.transaction(Accounts.update("a", (n = 0) => n + 10)), 20))
    settle()
    assert.deepStrictEqual(third.exit, Exit.succeed(11))
  })

  it("one of two that wait for each other fails with a deadlock, and can be run again", () => {
    const { fork, settle } = alone()
    const both = (first: string, second: string) =>
      Store.transaction(Effect.andThen(
        Effect.andThen(Accounts.update(first, (n = 0) => n + 1), Effect.sleep(10)),
        Accounts.update(second, (n = 0) => n + 1)
      ))
    const one = fork(both("a", "b"))
    const other = fork(Effect.retry(both("b", "a"), { times: 1, while: (error) => error.reason === "Deadlock" }))
    settle()
    const rows = fork(Accounts.all)
    settle()
    assert.isTrue(Exit.isSuccess(one.exit!))
    assert.isTrue(Exit.isSuccess(other.exit!))
    assert.deepStrictEqual(rows.exit, Exit.succeed([["a", 2], ["b", 2]]))
  })

  it("is aborted by a failed statement, whose failure it cannot swallow", () => {
    const { fork, settle } = alone({ faults: [{ operation: "main: write accounts/b", do: "failBefore" }] })
    const swallowed = fork(Store.transaction(Effect.gen(function*() {
      yield* Accounts.put("a", 1)
      yield* Effect.ignore(Accounts.put("b", 1))
    })))
    settle()
    const rows = fork(Accounts.all)
    settle()
    assert.strictEqual(reason(swallowed.exit), "Aborted")
    assert.deepStrictEqual(rows.exit, Exit.succeed([]))
  })
})

describe("a commit whose answer is lost", () => {
  for (const [fault, left] of [["failBefore", []], ["failAfter", [["a", 1]]]] as const) {
    it(`fails for its caller and is ${fault === "failAfter" ? "" : "not "}done`, () => {
      const { fork, settle } = alone({ faults: [{ operation: "main: commit accounts", do: fault }] })
      const commit = fork(Store.transaction(Accounts.put("a", 1)))
      settle()
      const rows = fork(Accounts.all)
      settle()
      assert.strictEqual(reason(commit.exit), "ConnectionLost")
      assert.deepStrictEqual(rows.exit, Exit.succeed(left as ReadonlyArray<readonly [string, number]>))
    })
  }
})

it("what is autonomous stays when the transaction around it is rolled back", () => {
  const { fork, settle } = alone()
  const rows = fork(Effect.andThen(
    Effect.ignore(Store.transaction(Effect.andThen(
      Effect.all([Accounts.put("a", 1), Store.autonomous(Accounts.put("b", 2))]),
      Effect.fail("no")
    ))),
    Accounts.all
  ))
  settle()
  assert.deepStrictEqual(rows.exit, Exit.succeed([["b", 2]]))
})

it("a statement that failed after it was done is done, outside of a transaction", () => {
  const { fork, settle } = alone({ faults: [{ operation: "main: update accounts/a", do: "failAfter" }] })
  const again = fork(Effect.retry(Accounts.update("a", (n = 0) => n + 1), { times: 1 }))
  settle()
  assert.deepStrictEqual(again.exit, Exit.succeed(2))
})

it("rows are values: to change what was written, or read, changes nothing, and says so", () => {
  const { fork, settle } = alone()
  const tags = ["new"]
  const changed = fork(Effect.gen(function*() {
    yield* Notes.put("1", { text: "hello", tags })
    return yield* Effect.try({ try: () => tags.push("changed"), catch: String })
  }))
  settle()
  assert.match(String(Exit.isFailure(changed.exit!) && changed.exit.cause), /not extensible|read only/)
})

it("a sequence does not go back with its transaction", () => {
  const { fork, settle } = alone()
  const numbers = fork(Effect.gen(function*() {
    const one = yield* Store.transaction(Store.next("ids"))
    yield* Effect.ignore(Store.transaction(Effect.andThen(Store.next("ids"), Effect.fail("no"))))
    return [one, yield* Store.next("ids")]
  }))
  settle()
  assert.deepStrictEqual(numbers.exit, Exit.succeed([1, 3]))
})
