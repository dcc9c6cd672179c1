/** What a program takes from outside of the simulation fails its check, with the place. */
import { assert, describe, it } from "@effect/vitest"
import { Scenario, Simulation, SimulationTest } from "@event-flow/simulation"
import { Effect, Layer } from "effect"
import { addOne, counting, counts } from "./support/counts.ts"

const using = (escape: () => unknown) => counts(counting((event) => Effect.andThen(Effect.sync(escape), addOne(event))))

const globals = () => ({
  setTimeout: globalThis.setTimeout,
  setInterval: globalThis.setInterval,
  setImmediate: globalThis.setImmediate,
  queueMicrotask: globalThis.queueMicrotask,
  fetch: globalThis.fetch,
  Date: globalThis.Date,
  now: Date.now,
  random: Math.random,
  promiseThen: Promise.prototype.then,
  performanceNow: performance.now,
  nextTick: process.nextTick,
  randomUUID: crypto.randomUUID,
  getRandomValues: crypto.getRandomValues
})

describe("a handler fails the check that", () => {
  const escapes: Record<string, () => unknown> = {
    "Date.now": () => Date.now(),
    "new Date()": () => new Date(),
    "Date()": () => Date(),
    "Math.random": () => Math.random(),
    "performance.now": () => performance.now(),
    "crypto.randomUUID": () => crypto.randomUUID(),
    "crypto.getRandomValues": () => crypto.getRandomValues(new Uint8Array(4)),
    setTimeout: () => setTimeout(() => {}, 1).unref(),
    setInterval: () => clearInterval(setInterval(() => {}, 1)),
    setImmediate: () => setImmediate(() => {}),
    queueMicrotask: () => queueMicrotask(() => {}),
    "process.nextTick": () => process.nextTick(() => {}),
    fetch: () => void fetch("http://127.0.0.1:1"),
    "a promise that is waited for": () => void Promise.resolve(1).then(() => {})
  }
  for (const [name, escape] of Object.entries(escapes)) {
    it(`uses ${name}`, () => {
      const before = globals()
      const { finding } = Simulation.check(using(escape), { seeds: 1 })
      assert.strictEqual(finding?.invariant, "the program is deterministic")
      const lines = finding!.detail.split("\n")
      assert.strictEqual(lines[1], name)
      assert.match(finding!.detail, /traps\.test\.ts:\d+/)
      assert.deepStrictEqual(globals(), before)
    })
  }

  it("waits for a promise", () => {
    const { finding } = Simulation.check(
      counts(counting((event) => Effect.andThen(Effect.promise(() => Promise.resolve(1)), addOne(event)))),
      { seeds: 1 }
    )
    assert.strictEqual(finding?.invariant, "the program is deterministic")
    assert.match(finding!.detail, /a promise that is waited for/)
  })

  it("runs an effect by itself, outside of the process", () => {
    const { finding } = Simulation.check(using(() => Effect.runFork(Effect.yieldNow)), { seeds: 1 })
    assert.strictEqual(finding?.invariant, "the program is deterministic")
  })

  it("keeps something from run to run", () => {
    let runs = 0
    const layer = Layer.effectDiscard(Effect.suspend(() => Effect.log(`built ${++runs} times`)))
    const { finding } = Simulation.check(
      Scenario.make({ one: layer }, { clients: { web: [Scenario.step("nothing", Effect.void)] }, faults: "none" }),
      { seeds: 1 }
    )
    assert.strictEqual(finding?.invariant, "the program is deterministic")
    assert.match(finding!.detail, /first: .*built 1 times\nthen: .*built 2 times/)
  })
})

it("dates are dates during a run, and may be made from numbers", () => {
  const before = new Date(0)
  const scenario = using(() => {
    assert.isTrue(before instanceof Date)
    assert.isTrue(new Date(5) instanceof Date)
    assert.strictEqual(new Date(5).getTime(), 5)
    assert.strictEqual(Date.UTC(2030, 0, 1), 1_893_456_000_000)
  })
  assert.isTrue(Simulation.check(scenario, { seeds: 5 }).isPassed)
})

it("a run that throws puts the globals back", () => {
  const before = globals()
  assert.throws(() =>
    Simulation.check(
      // The types refuse it
      { nodes: {}, clients: { web: [null as never] } },
      { seeds: 1 }
    )
  )
  assert.deepStrictEqual(globals(), before)
})

it("a run leaves no timer and no listener", () => {
  const handles = () => process.getActiveResourcesInfo().length
  const listeners = () => process.eventNames().reduce((sum, name) => sum + process.listenerCount(name), 0)
  const before = [handles(), listeners()]
  Simulation.check(counts(), { seeds: 20 })
  assert.deepStrictEqual([handles(), listeners()], before)
})

describe("as a test", () => {
  const registered: Array<{ name: string; body: () => Promise<void>; timeout: number }> = []
  const it_ = SimulationTest.extend((name: string, body: () => Promise<void>, timeout: number) => {
    registered.push({ name, body, timeout })
  })

  it("is registered with a bound of time, passes, and fails with the report", async () => {
    it_.simulation("holds", counts(), { seeds: 20 })
    it_.simulation("breaks", counts(counting(addOne, { dedupe: false })), { seeds: 200 })
    it_.simulation("within a time", counts(), { time: "1 millis", atLeast: 3 })
    const [holds, breaks, timed] = registered
    assert.strictEqual(holds!.name, "holds")
    assert.isAbove(holds!.timeout, 10_000)
    await holds!.body()
    await timed!.body()
    const error: unknown = await breaks!.body().then(() => undefined, (error: unknown) => error)
    assert.match(String(error), /each order is counted once: BROKEN/)
  })
})
