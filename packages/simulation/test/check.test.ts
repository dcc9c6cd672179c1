/** What a check asks of runs, and what it says. */
import { assert, describe, it } from "@effect/vitest"
import { Client, Invariant, Scenario, Simulation, Store } from "@event-flow/simulation"
import { Cause, Context, Effect, Layer, Schedule } from "effect"
import {
  addOne,
  clients,
  countedOnce,
  counting,
  Counts,
  counts,
  OrderPlaced,
  Orders,
  ShopLive
} from "./support/counts.ts"

const noDedupe = counts(counting(addOne, { dedupe: false }))
const nodes = counts().nodes

describe("a check", () => {
  it("passes a system that keeps its promises, and counts what befell it", () => {
    const report = Simulation.check(counts(), { seeds: 100 })
    assert.isTrue(report.isPassed)
    assert.strictEqual(report.runs, 100)
    assert.isAbove(report.faults, 100)
    assert.match(String(report), /^100 runs, \d+ faults, \d+ steps: all promises kept$/)
  })

  it("finds a broken promise, makes the run short, and tells the story", () => {
    const { finding } = Simulation.check(noDedupe)
    assert.strictEqual(finding?.invariant, "eventually: each order is counted once")
    assert.isAtMost(finding!.faults.length, 1)
    assert.isAtMost(finding!.workload.length, 2)
    const text = String(finding)
    assert.match(text, /counted: \d instead of \d/)
    for (
      const part of [
        "BROKEN",
        `Found by: Simulation.check(scenario, { seed: ${finding!.seed} })`,
        "Replay:   Simulation.replay(scenario, { faults: [{ operation: ",
        "Workload:",
        "Faults:",
        "⚡",
        "commits orders/",
        "The flow:",
        "✓ PlaceOrder"
      ]
    ) assert.include(text, part)
  })

  it("what it prints repeats the run, without the seed", () => {
    const { finding } = Simulation.check(noDedupe)
    const [, printed] = /Simulation\.replay\(scenario, (.*)\)$/m.exec(String(finding))!
    // Written as a literal of the language
    const recording = new Function(`return ${printed}`)()
    assert.isUndefined(recording.seed)
    const again = Simulation.replay(noDedupe, recording)
    assert.strictEqual(again.finding?.invariant, finding!.invariant)
    assert.deepStrictEqual(again.finding?.story, finding!.story)
    assert.isTrue(Simulation.replay(counts(), recording).isPassed)
  })

  it("one seed alone finds the same", () => {
    const { finding } = Simulation.check(noDedupe)
    const again = Simulation.check(noDedupe, { seed: finding!.seed! })
    assert.deepStrictEqual(String(again.finding), String(finding))
  })

  it("ends in time, after some runs", () => {
    const report = Simulation.check(counts(), { seeds: 100_000, time: "1 millis", atLeast: 7 })
    assert.strictEqual(report.runs, 7)
  })

  it("tells its progress", () => {
    const seen: Array<number> = []
    Simulation.check(counts(), { seeds: 3, onRun: ({ runs }) => seen.push(runs) })
    assert.deepStrictEqual(seen, [1, 2, 3])
  })
})

describe("assert", () => {
  it("throws the report", () => {
    Simulation.assert(counts(), { seeds: 5 })
    assert.throws(() => Simulation.assert(noDedupe), /each order is counted once: BROKEN/)
  })
})

describe("each", () => {
  it("has every single fault at every operation: it finds what one fault breaks, without a seed", () => {
    const report = Simulation.each(noDedupe)
    assert.isAbove(report.operations, 20)
    assert.isAbove(report.runs, 3 * report.operations)
    assert.isNotEmpty(report.findings)
    for (const { faults, recording, seed } of report.findings) {
      assert.lengthOf(faults, 1)
      assert.isUndefined(seed)
      assert.isFalse(Simulation.replay(noDedupe, recording).isPassed)
    }
    assert.lengthOf(Simulation.each(noDedupe, { stopAtFirst: true }).findings, 1)
  })

  it("finds nothing in a system that is right", () => {
    assert.deepStrictEqual(Simulation.each(counts()).findings.map(String), [])
  })
})

describe("a promise is broken by", () => {
  const only = (more: Partial<Scenario.Options<typeof nodes>>) =>
    Simulation.check(Scenario.make(nodes, { clients, ...more }), { seeds: 20 }).finding

  it("a change after which an invariant does not hold", () => {
    const finding = only({ always: { "one order": (view) => view.rows(Orders).size < 2 || "two" } })
    assert.strictEqual(finding?.invariant, "always: one order")
    assert.strictEqual(finding!.detail, "two")
    // The story ends where it broke
    assert.match(finding!.story.at(-1)!.text, /commits orders/)
  })

  it("an invariant that throws", () => {
    const finding = only({
      eventually: {
        bad: () => {
          throw new Error("oh")
        }
      }
    })
    assert.strictEqual(finding?.detail, "it threw Error: oh")
  })

  it("a step that fails", () => {
    const finding = only({ clients: { web: [Scenario.step("fail", Effect.fail("no"))] } })
    assert.strictEqual(finding?.invariant, "the steps of client \"web\" succeed")
    assert.strictEqual(finding!.detail, "no")
  })

  it("a client that is never done", () => {
    const finding = only({ clients: { web: [Scenario.step("wait", Effect.never)] } })
    assert.strictEqual(finding?.invariant, "the system settles")
    assert.match(finding!.detail, /1 client\(s\) are not done/)
  })

  it("a message that is never acknowledged", () => {
    const program = counting(() => Effect.never)
    const finding = Simulation.check(counts(program), { seeds: 1 }).finding
    assert.strictEqual(finding?.invariant, "the system settles")
  })
})

describe("sometimes", () => {
  it("a state that no run comes to fails the check", () => {
    const scenario = Scenario.make(nodes, {
      clients,
      sometimes: {
        "two orders": (view) => view.rows(Orders).size === 2,
        "ten orders": (view) => view.rows(Orders).size === 10
      }
    })
    const report = Simulation.check(scenario, { seeds: 20 })
    assert.isFalse(report.isPassed)
    assert.deepStrictEqual(report.unreached, ["ten orders"])
    assert.match(String(report), /sometimes: ten orders: NOT REACHED/)
    assert.throws(() => report.orThrow(), /NOT REACHED/)
    // One seed alone says nothing about that
    assert.isTrue(Simulation.check(scenario, { seed: 3 }).isPassed)
  })
})

it("a scenario to which nothing happens says so", () => {
  const scenario = Scenario.make({ shop: Layer.empty }, {
    clients: { web: [Scenario.step("nothing", Effect.void)] },
    faults: { restarts: 0, stalls: 0, outages: 0 }
  })
  assert.deepStrictEqual(Simulation.check(scenario, { seeds: 20 }).warnings.length, 1)
  assert.deepStrictEqual(
    Simulation.check(Scenario.make(scenario.nodes, { ...scenario, faults: "none" }), { seeds: 20 }).warnings,
    []
  )
})

it("without faults nothing goes wrong, in any order", () => {
  const report = Simulation.check(Scenario.make(nodes, { ...noDedupe, faults: "none" }), { seeds: 50 })
  assert.isTrue(report.isPassed)
  assert.strictEqual(report.faults, 0)
})

it("limits leave out kinds of fault", () => {
  const { faults } = Simulation.check(
    Scenario.make(nodes, {
      ...counts(),
      faults: {
        failsBefore: 0,
        failsAfter: 0,
        duplicates: 0,
        lostAcks: 0,
        slow: 0,
        timeouts: 0,
        outages: 0,
        rebalances: 0,
        restarts: 0,
        stalls: 0,
        crashes: 0.01
      }
    }),
    { seeds: 30 }
  )
  assert.isAbove(faults, 0)
})

describe("an invariant sees", () => {
  it("rows, messages, events, and the services of the nodes that are up", () => {
    class Limit extends Context.Service<Limit, number>()("test/Limit") {}
    const WithLimit = Layer.merge(ShopLive, Layer.succeed(Limit)(7))
    const seen: Array<unknown> = []
    const scenario = Scenario.make({
      shop: WithLimit,
      counts: { layer: counting(), instances: 3 }
    }, {
      clients,
      faults: "none",
      eventually: {
        all: (view) => {
          seen.push(
            [...view.rows(Counts)].sort(),
            view.row(Orders, "3"),
            view.messages("orders").length,
            view.events(OrderPlaced).map(({ customer }) => customer).sort(),
            view.services("shop").map((context) => Context.get(context, Limit)),
            view.services("counts").length,
            Invariant.nothingDead(view, "orders")
          )
          return true
        }
      }
    })
    Simulation.replay(scenario, {})
    assert.deepStrictEqual(seen, [[["ann", 2], ["bob", 1]], "bob", 3, ["ann", "ann", "bob"], [7], 3, true])
  })
})

describe("a request of a client", () => {
  const Rows = Store.table<number>("rows")
  const add = Client.call("one", Rows.update("n", (n = 0) => n + 1))
  const scenario = (step: Effect.Effect<unknown, unknown, Client.On<"one", Store.Store>>) =>
    Scenario.make({ one: Layer.empty }, { clients: { web: [Scenario.step("add", step)] } })
  const run = (fault: "failBefore" | "failAfter" | undefined) => {
    let failure: unknown
    const rows: Array<number | undefined> = []
    Simulation.replay(
      Scenario.make({ one: Layer.empty }, {
        ...scenario(Effect.catchCause(add, (cause) => Effect.sync(() => failure = Cause.squash(cause)))),
        eventually: {
          row: (view) => {
            rows.push(view.row(Rows, "n"))
            return true
          }
        }
      }),
      fault === undefined ? {} : { faults: [{ operation: "web: add at one", do: fault }] }
    )
    return [failure instanceof Client.NodeUnavailable, rows[0]]
  }

  it("is done, or fails before or after it is done", () => {
    assert.deepStrictEqual(run(undefined), [false, 1])
    assert.deepStrictEqual(run("failBefore"), [true, undefined])
    assert.deepStrictEqual(run("failAfter"), [true, 1])
  })

  it("fails when the process dies that works on it", () => {
    let failures = 0
    const step = Effect.retry(Effect.tapError(add, () => Effect.sync(() => failures++)), {
      schedule: Schedule.spaced("10 millis"),
      times: 50
    })
    const report = Simulation.replay(
      Scenario.make({ one: Layer.empty }, {
        ...scenario(Effect.delay(step, 10)),
        eventually: { once: countedTwice(Rows) }
      }),
      { faults: [{ operation: "one: update rows/n", do: "crashAfter", downFor: 0 }] }
    )
    assert.isAbove(failures, 0)
    assert.strictEqual(report.finding?.detail, "n: 2 instead of 1")
  })
})

const countedTwice = (table: Store.Table<number>): Invariant.Invariant => (view) =>
  Invariant.equal("n", view.row(table, "n"), 1)

it("the report of a check prints nothing but what it has", () => {
  const report = Simulation.check(counts(), { seeds: 2 })
  assert.deepStrictEqual([report.unreached, report.warnings], [[], []])
  assert.isFunction(countedOnce)
})
