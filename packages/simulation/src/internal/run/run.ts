/** One run of a scenario. */
import * as FlowObserver from "@event-flow/core/FlowObserver"
import { type Flow, Tracker } from "@event-flow/core/testing"
import * as Cause from "effect/Cause"
import type * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Layer from "effect/Layer"
import type * as Logger from "effect/Logger"
import type { Fault, TimedFault } from "../../Fault.ts"
import type { Invariant, NodesView } from "../../Invariant.ts"
import type { Outside } from "../../Node.ts"
import type { Schedule } from "../../Recording.ts"
import type { Scenario } from "../../Scenario.ts"
import * as Store from "../../Store.ts"
import { SimulatedBroker } from "../broker/broker.ts"
import { environmentOf, epochMillis, uuidOf } from "../kernel/environment.ts"
import type { Kind, Plan } from "../kernel/plan.ts"
import type { Process } from "../kernel/process.ts"
import { setTraps } from "../kernel/traps.ts"
import { type Entry, World } from "../kernel/world.ts"
import { StoreEngine } from "../store/engine.ts"
import { ClientRuns } from "./clients.ts"
import { Instance, layerOf, processNames } from "./instance.ts"
import { makeView } from "./view.ts"

/** What makes a run: with the same, it is the same. */
export interface Setting {
  readonly seed: number
  readonly schedule: Schedule
  readonly plan: Plan
  /** The steps of clients that are left out; see `placeOf`. */
  readonly dropped: ReadonlySet<string>
  /** Whether flows are observed, which takes another way through the library. */
  readonly isObserved: boolean
  readonly keepsStory: boolean
}

/** A promise that a run did not keep. */
export interface Broken {
  readonly invariant: string
  readonly detail: string
}

/** What has come of a run. */
export interface Outcome {
  readonly setting: Setting
  readonly broken: Broken | undefined
  readonly faults: ReadonlyArray<Fault>
  readonly fingerprint: number
  readonly steps: number
  /** Milliseconds of virtual time. */
  readonly millis: number
  readonly story: ReadonlyArray<Entry>
  readonly flow: Flow.Flow | undefined
  /** What the program took from outside of the simulation, with stacks. */
  readonly escaped: ReadonlyArray<string>
  /** The operations that a fault could have hit; kept with the story. */
  readonly asked: ReadonlyArray<{ readonly operation: string; readonly kind: Kind }>
  /** The states that some run should come to, and this one came to. */
  readonly reached: ReadonlySet<string>
}

/** Beyond this a run does not come to its end. */
const bounds = { millis: 600_000, steps: 400_000 }

/** What is broken where the clock of the process is read; see `Outcome.escaped`. */
export const deterministic = "the program is deterministic"

export const runScenario = (scenario: Scenario, setting: Setting): Outcome => new Run(scenario, setting).run()

class Run {
  readonly #scenario: Scenario
  readonly #setting: Setting
  readonly #world: World
  readonly #broker: SimulatedBroker
  readonly #store: StoreEngine
  readonly #instances: ReadonlyArray<Instance>
  readonly #clients: ClientRuns
  readonly #view: NodesView
  readonly #recording: Tracker.Recording | undefined
  readonly #reached = new Set<string>()
  readonly #quietFor: number
  #broken: Broken | undefined

  constructor(scenario: Scenario, setting: Setting) {
    this.#scenario = scenario
    this.#setting = setting
    this.#world = new World(setting)
    this.#broker = new SimulatedBroker(this.#world)
    this.#store = new StoreEngine(this.#world)
    this.#recording = setting.isObserved ? Tracker.makeRecording() : undefined
    this.#quietFor = Duration.toMillis(Duration.fromInputUnsafe(scenario.quietFor ?? "5 seconds"))
    const outside: Layer.Layer<Outside> = Layer.merge(this.#broker.layer, Layer.succeed(Store.Store)(this.#store))
    const observed = this.#recording === undefined ? Layer.empty : FlowObserver.layer(this.#recording.observer)
    this.#instances = processNames(scenario.nodes).map(([name, node]) => {
      const process = this.#world.process(name, node)
      const layer = layerOf(scenario.nodes[node]!).pipe(Layer.provide(observed), Layer.provideMerge(outside))
      return new Instance(this.#world, process, layer, () => this.#environment(process))
    })
    this.#clients = new ClientRuns(this.#world, this.#instances)
    this.#view = makeView(
      this.#world,
      this.#broker,
      this.#store,
      (node) =>
        this.#instances.flatMap(({ process, services }) =>
          process.node === node && services !== undefined ? [services] : []
        )
    )
  }

  run(): Outcome {
    const world = this.#world
    const { outside } = world
    const traps = setTraps({
      now: () => epochMillis + world.loop.now,
      random: () => outside.random.next(),
      uuid: () => uuidOf(outside)
    })
    try {
      this.#start()
      const end = world.loop.run(() => this.#isDone(), bounds)
      if (end !== "done") this.#fail("the system settles", this.#whyUnsettled())
      this.#checkAll("eventually", this.#scenario.eventually)
    } finally {
      traps.restore()
    }
    if (traps.escaped.length > 0) {
      this.#broken = { invariant: deterministic, detail: `it uses\n${traps.escaped.join("\n")}` }
    }
    return {
      setting: this.#setting,
      broken: this.#broken,
      faults: world.fired,
      fingerprint: world.loop.fingerprint,
      steps: world.loop.steps,
      millis: world.loop.now,
      story: world.story,
      flow: this.#recording?.flow,
      escaped: traps.escaped,
      asked: world.asked,
      reached: this.#reached
    }
  }

  #start(): void {
    const world = this.#world
    world.onChange = () => this.#checkAll("always", this.#scenario.always)
    world.crash = (process, downFor) => this.#instances.find((one) => one.process === process)?.die(downFor)
    for (const instance of this.#instances) instance.start()
    this.#clients.start(this.#scenario.clients, {
      dropped: this.#setting.dropped,
      environment: (name) => this.#environment(world.process(`client ${name}`, name)),
      failed: (client, detail) => this.#fail(`the steps of client "${client}" succeed`, detail)
    })
    for (const fault of world.timed) world.outside.after(fault.time, () => this.#strike(fault))
    const faultsFor = Duration.toMillis(Duration.fromInputUnsafe(this.#scenario.faultsFor ?? "4 seconds"))
    world.outside.after(faultsFor, () => {
      world.isCalm = true
      world.lastChange = Math.max(world.lastChange, world.loop.now)
      this.#broker.comeBack()
    })
    // Time goes on while everything waits
    const tick = () => void world.outside.after(1000, tick)
    tick()
  }

  #strike(fault: TimedFault): void {
    const world = this.#world
    if (world.isCalm) return
    const of = (name: string) => this.#instances.find(({ process }) => process.name === name)
    switch (fault.do) {
      case "outage":
        this.#broker.outage(fault.lasts)
        break
      case "rebalance":
        if (!this.#broker.rebalance(fault.heardAfter, fault.pick)) return
        break
      case "restart":
        if (of(fault.process)?.stop() !== true) return
        world.tell(fault.process, "is asked to stop", true)
        break
      case "stall": {
        const process = of(fault.process)?.process
        if (process === undefined) return
        world.tell(fault.process, `stands still for ${fault.lasts} ms`, true)
        process.stalledUntil = Math.max(process.stalledUntil, world.loop.now + fault.lasts)
        this.#broker.stalled(process, fault.lasts)
      }
    }
    world.fired.push(fault)
  }

  #environment(process: Process): Context.Context<never> {
    return environmentOf(process, (options) => this.#world.tell(process.name, () => `logs ${describeLog(options)}`))
  }

  #isDone(): boolean {
    if (this.#broken !== undefined) return true
    const world = this.#world
    return world.isCalm && world.loop.now - world.lastChange > this.#quietFor && this.#clients.left === 0 &&
      this.#broker.unacknowledged === 0
  }

  #whyUnsettled(): string {
    const { loop } = this.#world
    return `after ${Math.round(loop.now / 1000)} s of virtual time and ${loop.steps} steps: ` +
      `${this.#clients.left} client(s) are not done, ${this.#broker.unacknowledged} message(s) are not acknowledged`
  }

  #fail(invariant: string, detail: string): void {
    this.#broken ??= { invariant, detail }
  }

  #checkAll(when: string, invariants: Readonly<Record<string, Invariant>> | undefined): void {
    if (this.#broken !== undefined) return
    for (const [name, isReached] of Object.entries(this.#scenario.sometimes ?? {})) {
      if (!this.#reached.has(name) && isReached(this.#view)) this.#reached.add(name)
    }
    for (const [name, invariant] of Object.entries(invariants ?? {})) {
      const verdict = ask(invariant, this.#view)
      if (verdict !== true) return this.#fail(`${when}: ${name}`, verdict)
    }
  }
}

/** An invariant that throws is one that does not hold. */
const ask = (invariant: Invariant, view: NodesView): true | string => {
  try {
    return invariant(view)
  } catch (error) {
    return `it threw ${String(error)}`
  }
}

const describeLog = ({ cause, logLevel, message }: Logger.Options<unknown>): string => {
  const text = (Array.isArray(message) ? message : [message]).map((part) =>
    typeof part === "string" ? part : JSON.stringify(part)
  ).join(" ")
  const why = cause.reasons.length === 0 ? "" : `: ${String(Cause.squash(cause)).slice(0, 300)}`
  return `${logLevel}: ${text}${why}`
}
