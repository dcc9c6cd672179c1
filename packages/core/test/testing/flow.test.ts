/** How a flow shows what went wrong. */
import { assert, describe, it } from "@effect/vitest"
import { Flow } from "@event-flow/core/testing"
import { Data, Exit } from "effect"
import { Full, UserJoined } from "./support.ts"

class Empty extends Data.TaggedError("Empty") {}

const throwing = {
  get _tag(): string {
    throw new Error("not today")
  }
}

const failing = (outcome: Exit.Exit<unknown, unknown>): string =>
  Flow.describe({
    _tag: "Handler",
    handler: "Greet",
    event: new UserJoined({ userId: "u" }),
    outcome,
    parent: undefined,
    children: []
  })

describe("Flow.describe", () => {
  const errors: ReadonlyArray<readonly [name: string, error: unknown, text: string]> = [
    ["an error with a tag and a message", new Full({ meetingId: "m" }), "Full: m is full"],
    ["an error without a message", new Empty(), "Empty"],
    ["an error of JavaScript", new TypeError("no such thing"), "TypeError: no such thing"],
    ["a tagged object", { _tag: "Late", minutes: 3 }, "Late"],
    ["an object", { minutes: 3 }, "{\"minutes\":3}"],
    ["a text", "too late", "too late"],
    ["one whose getters throw", throwing, "(an error that cannot be described)"]
  ]
  for (const [name, error, text] of errors) {
    it(name, () => {
      assert.strictEqual(failing(Exit.fail(error)), `✗ Greet: ${text}`)
      assert.strictEqual(failing(Exit.die(error)), `‼ Greet: defect: ${text}`)
    })
  }
})
