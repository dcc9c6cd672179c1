/** The instances of nodes: processes that are built, die, stop in order, and start again. */
import * as EventConsumer from "@event-flow/core/EventConsumer"
import * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import type { Node, Nodes, Outside } from "../../Node.ts"
import type { Process } from "../kernel/process.ts"
import type { World } from "../kernel/world.ts"

type AnyContext = Context.Context<never>

/** Milliseconds until a process starts again that stopped in order, or that ended by itself. */
const restartAfter = { stop: 50, end: 1000 }

export class Instance {
  readonly process: Process
  readonly #layer: Layer.Layer<never, unknown>
  readonly #world: World
  /** The environment of its present life. */
  readonly #environment: () => AnyContext
  /** What it offers; undefined: it is not up. */
  services: AnyContext | undefined
  #main: Fiber.Fiber<unknown, unknown> | undefined

  constructor(
    world: World,
    process: Process,
    layer: Layer.Layer<never, unknown>,
    environment: () => AnyContext
  ) {
    this.#world = world
    this.process = process
    this.#layer = layer
    this.#environment = environment
  }

  start(): void {
    const environment = this.#environment()
    const { epoch } = this.process
    const main = Effect.scopedWith((scope) =>
      Effect.flatMap(Layer.buildWithScope(this.#layer, scope), (built) => {
        this.services = Context.merge(environment, built)
        this.#world.tell(this.process.name, "is up")
        return endOf(built)
      })
    )
    this.process.push(() => {
      const fiber = Effect.runForkWith(environment)(main)
      this.#main = fiber
      fiber.addObserver((exit) => {
        if (this.process.epoch === epoch) this.#ended(exit)
      })
    })
  }

  /** Dies at once, and starts again later. */
  die(downFor: number): void {
    this.services = undefined
    this.#main = undefined
    this.process.die()
    this.#startAfter(Math.max(1, downFor))
  }

  /** Is asked to stop in order, as by a deployment. */
  stop(): boolean {
    const main = this.#main
    if (main === undefined) return false
    this.services = undefined
    // A process that stands still hears of it when it goes on
    this.process.push(() => main.interruptUnsafe())
    return true
  }

  #ended(exit: Exit.Exit<unknown, unknown>): void {
    this.services = undefined
    this.#main = undefined
    const isFailed = Exit.isFailure(exit) && !Cause.hasInterruptsOnly(exit.cause)
    this.#world.tell(
      this.process.name,
      () => isFailed ? `ends by itself: ${String(Cause.squash(exit.cause)).slice(0, 300)}` : "has stopped"
    )
    this.#startAfter(isFailed ? restartAfter.end : restartAfter.stop)
  }

  #startAfter(millis: number): void {
    const { epoch } = this.process
    this.#world.outside.after(millis, () => {
      if (this.process.epoch === epoch) this.start()
    })
  }
}

/** A program with a consumer ends when that ends; any other goes on. */
const endOf = (built: AnyContext): Effect.Effect<unknown, unknown> => {
  const consumer = Context.getOption(built as Context.Context<EventConsumer.EventConsumer>, EventConsumer.EventConsumer)
  return Option.isSome(consumer) ? consumer.value.join : Effect.never
}

const isNode = (definition: Nodes[string]): definition is Node => !Layer.isLayer(definition)

/** A layer that needs nothing but what is outside: the scenario has seen to it. */
export const layerOf = (definition: Nodes[string]): Layer.Layer<never, unknown, Outside> =>
  (isNode(definition) ? definition.layer : definition) as Layer.Layer<never, unknown, Outside>

/** The processes that run nodes, by their names. */
export const processNames = (nodes: Nodes): ReadonlyArray<readonly [process: string, node: string]> =>
  Object.entries(nodes).flatMap(([node, definition]) => {
    const instances = isNode(definition) ? definition.instances ?? 1 : 1
    return Array.from({ length: instances }, (_, i) => [instances === 1 ? node : `${node}-${i + 1}`, node] as const)
  })
