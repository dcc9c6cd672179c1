import { assert, it, vi } from "@effect/vitest"
import { run } from "./support.ts"

vi.setConfig({ testTimeout: 180_000 })

it("meetings prints what happened, in the order in which it happened", async () => {
  const { code, stderr, stdout } = await run("meetings/main.ts")
  assert.deepStrictEqual({ code, stderr }, { code: 0, stderr: "" })
  assert.deepStrictEqual(stdout.trimEnd().split("\n"), [
    "Ada asks to join",
    "  Greet: welcome, Ada!",
    "  CountGreetings: 1 so far",
    "  Ada is in, seats left: 1",
    "Grace asks to join",
    "  Greet: welcome, Grace!",
    "  CountGreetings: 2 so far",
    "  Grace is in, seats left: 0",
    "Edsger asks to join",
    "  sorry Edsger, effect-days is full",
    "Published to the topic \"meetings\":",
    "  SeatTaken.v1 key=effect-days {\"meeting\":\"effect-days\",\"seatsLeft\":1}",
    "  SeatTaken.v1 key=effect-days {\"meeting\":\"effect-days\",\"seatsLeft\":0}"
  ])
})
