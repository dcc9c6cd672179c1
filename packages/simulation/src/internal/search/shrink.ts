/** From a run that breaks a promise to a small one that breaks the same: less disorder, fewer steps, fewer faults. */
import type { Fault } from "../../Fault.ts"
import type { Recording, Schedule } from "../../Recording.ts"
import type { Scenario } from "../../Scenario.ts"
import { placeOf } from "../run/clients.ts"
import { type Outcome, runScenario } from "../run/run.ts"
import { eachFault } from "./each.ts"
import { fromRecording, recordingOf } from "./settings.ts"

export interface Shrunk {
  readonly outcome: Outcome
  /** How many runs it took. */
  readonly tries: number
}

/** How many runs may be spent on it. */
const budget = { tries: 500, single: 700 }

export const shrink = (scenario: Scenario, found: Outcome): Shrunk => {
  const shrinker = new Shrinker(scenario, found)
  shrinker.run()
  return { outcome: shrinker.best, tries: shrinker.tries }
}

class Shrinker {
  readonly #scenario: Scenario
  readonly #invariant: string | undefined
  best: Outcome
  tries = 0
  #limit = budget.tries

  constructor(scenario: Scenario, found: Outcome) {
    this.#scenario = scenario
    this.#invariant = found.broken?.invariant
    this.best = found
  }

  run(): void {
    // Once as a list of faults, with a story
    if (!this.#try({})) return
    this.#reduce()
    const { faults } = this.best
    if (this.#isDisordered || faults.length > 1 || faults.some((fault) => "time" in fault)) {
      this.#single()
    }
  }

  /** The best recording with something else. */
  #try(change: Partial<Recording>): boolean {
    if (this.tries >= this.#limit) return false
    this.tries++
    const outcome = runScenario(this.#scenario, fromRecording({ ...recordingOf(this.best), ...change }))
    if (outcome.broken?.invariant !== this.#invariant) return false
    this.best = outcome
    return true
  }

  get #isDisordered(): boolean {
    const { latency, order, pause, preemption } = this.best.setting.schedule
    return order === "random" || latency + pause + preemption > 0
  }

  get #faults(): ReadonlyArray<Fault> {
    return this.best.faults
  }

  #reduce(): void {
    let isSmaller = true
    while (isSmaller && this.tries < this.#limit) {
      // Each of them, whether or not another one has helped
      const helped = [
        this.#lessDisorder(),
        // Before steps: a smaller workload may need more faults for the same
        this.#fewerFaults(),
        this.#fewerSteps(),
        this.#fewerStepsElsewhere(),
        this.#earlierFaults(),
        this.#gentlerFaults()
      ]
      isSmaller = helped.includes(true)
    }
  }

  #lessDisorder(): boolean {
    const { setting } = this.best
    const changes: ReadonlyArray<readonly [isThere: boolean, change: () => Partial<Recording>]> = [
      [setting.schedule.preemption > 0, () => this.#scheduled({ preemption: 0 })],
      [setting.schedule.order === "random", () => this.#scheduled({ order: "fifo" })],
      [setting.schedule.latency > 0, () => this.#scheduled({ latency: 0 })],
      [setting.schedule.pause > 0, () => this.#scheduled({ pause: 0 })],
      [!setting.isObserved, () => ({ observed: true })],
      [setting.seed !== 0, () => ({ seed: 0 })]
    ]
    return changes.filter(([isThere, change]) => isThere && this.#try(change())).length > 0
  }

  #scheduled(change: Partial<Schedule>): Partial<Recording> {
    return { schedule: { ...this.best.setting.schedule, ...change } }
  }

  /** Whole clients, then steps, the last first. */
  #fewerSteps(): boolean {
    let helped = false
    const drop = (places: ReadonlyArray<string>): boolean => {
      const without = [...this.best.setting.dropped, ...places]
      if (this.#try({ without })) return true
      // Without a step, the disorder of a seed is another one: perhaps that of another seed does
      return this.#isDisordered && [0, 1, 2, 3, 4].some((seed) => this.#try({ without, seed }))
    }
    for (const [client, steps] of Object.entries(this.#scenario.clients)) {
      const left = steps.map((_, i) => placeOf(client, i)).filter((place) => !this.best.setting.dropped.has(place))
      if (left.length === 0) continue
      if (drop(left)) {
        helped = true
        continue
      }
      for (const place of left.toReversed()) if (left.length > 1 && drop([place])) helped = true
    }
    return helped
  }

  /**
   * Without a step, rows and messages have other numbers, and so have the operations on them: a single fault may have to
   * go to one that differs in nothing else.
   */
  #fewerStepsElsewhere(): boolean {
    const [fault] = this.#faults
    if (fault === undefined || this.#faults.length > 1 || "time" in fault) return false
    let helped = false
    for (const place of this.#places.toReversed()) {
      const without = [...this.best.setting.dropped, place]
      const operations = this.#operations(without).filter((other) =>
        withoutNumbers(other) === withoutNumbers(fault.operation)
      )
      helped = operations.slice(0, 4).some((operation) => this.#try({ without, faults: [{ ...fault, operation }] })) ||
        helped
    }
    return helped
  }

  /** The steps that are left. */
  get #places(): ReadonlyArray<string> {
    return Object.entries(this.#scenario.clients).flatMap(([client, steps]) =>
      steps.map((_, i) => placeOf(client, i)).filter((place) => !this.best.setting.dropped.has(place))
    )
  }

  /** What a run without faults asks for. */
  #operations(without: ReadonlyArray<string>): ReadonlyArray<string> {
    this.tries++
    const outcome = runScenario(this.#scenario, fromRecording({ ...recordingOf(this.best), faults: [], without }))
    return outcome.asked.map(({ operation }) => operation)
  }

  /** Halves, quarters, and at last single ones. */
  #fewerFaults(): boolean {
    let helped = false
    for (let size = Math.ceil(this.#faults.length / 2); size >= 1; size = size === 1 ? 0 : Math.ceil(size / 2)) {
      let i = 0
      while (i < this.#faults.length) {
        if (this.#try({ faults: this.#faults.filter((_, j) => j < i || j >= i + size) })) helped = true
        else i += size
      }
    }
    return helped
  }

  /** The same fault earlier: what it needs to come before may then go. */
  #earlierFaults(): boolean {
    let helped = false
    for (let i = 0; i < this.#faults.length; i++) {
      const fault = this.#faults[i]!
      if ("time" in fault) continue
      const [, name, number] = /^(.*) #(\d+)$/.exec(fault.operation) ?? []
      if (name === undefined) continue
      const operation = Number(number) > 2 ? `${name} #${Number(number) - 1}` : name
      if (this.#try({ faults: this.#faults.with(i, { ...fault, operation }) })) helped = true
    }
    return helped
  }

  /** Round numbers, where they do as well. */
  #gentlerFaults(): boolean {
    let helped = false
    for (let i = 0; i < this.#faults.length; i++) {
      const fault = this.#faults[i]!
      const gentler = gentlerThan(fault)
      if (gentler !== undefined && this.#try({ faults: this.#faults.with(i, gentler) })) helped = true
    }
    return helped
  }

  /** Perhaps one fault in a run in order says the same as several, or as one at a time, or as disorder. */
  #single(): void {
    const limit = this.tries + budget.single
    for (const outcome of eachFault(this.#scenario, [...this.best.setting.dropped])) {
      this.tries++
      if (outcome.broken !== undefined && outcome.broken.invariant === this.#invariant) {
        this.best = outcome
        this.#limit = this.tries + budget.tries
        return this.#reduce()
      }
      if (this.tries >= limit) return
    }
  }
}

const withoutNumbers = (operation: string): string => operation.replaceAll(/\d+/g, "N")

const gentlerThan = (fault: Fault): Fault | undefined => {
  switch (fault.do) {
    case "crashBefore":
    case "crashAfter":
      return fault.downFor === 500 ? undefined : { ...fault, downFor: 500 }
    case "slow":
      return fault.by === 1000 ? undefined : { ...fault, by: 1000 }
    case "loseAck":
      return fault.count === 1 ? undefined : { ...fault, count: 1 }
    default:
      return undefined
  }
}
