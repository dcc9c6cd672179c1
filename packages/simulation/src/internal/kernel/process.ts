/** A process of the simulated system: an instance of a node, the clients, or the world itself. */
import { hash, Prng } from "../seeded.ts"
import type { Loop, Owner } from "./loop.ts"

export class Process implements Owner {
  readonly loop: Loop
  readonly name: string
  /** What the instances of one node have in common. */
  readonly node: string
  readonly random: Prng
  /** How often it has died: whatever belongs to an earlier life never runs again. */
  epoch = 0
  stalledUntil = 0
  readonly #onDeath = new Set<() => void>()

  constructor(loop: Loop, seed: number, name: string, node: string) {
    this.loop = loop
    this.name = name
    this.node = node
    this.random = new Prng(hash(seed, `random of ${name}`))
  }

  /** Runs something in its present life. */
  push(run: () => void): void {
    this.loop.push(this, this.epoch, run)
  }

  after(millis: number, run: () => void): () => void {
    return this.loop.after(millis, this, this.epoch, run)
  }

  /** What the world does when the process dies: connections break. Gives a function that forgets it. */
  whenDead(run: () => void): () => void {
    this.#onDeath.add(run)
    return () => this.#onDeath.delete(run)
  }

  /** From here on none of its fibers runs another operation: no finalizer, no acknowledgement, no commit. */
  die(): void {
    this.epoch++
    this.stalledUntil = 0
    const all = [...this.#onDeath]
    this.#onDeath.clear()
    for (const run of all) run()
  }
}
