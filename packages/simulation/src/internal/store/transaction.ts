/** A transaction on the simulated store. */
import * as Context from "effect/Context"
import type { Process } from "../kernel/process.ts"

export class Transaction {
  readonly process: Process
  readonly #epoch: number
  /** What it has written, by row; undefined: removed. */
  writes = new Map<string, unknown>()
  readonly locks = new Set<string>()
  isEnded = false
  /** A statement has failed: nothing but a rollback is left. */
  isAborted = false
  /** The row that it waits for. */
  waitsFor: string | undefined = undefined

  constructor(process: Process) {
    this.process = process
    this.#epoch = process.epoch
  }

  get isDead(): boolean {
    return this.isEnded || this.process.epoch !== this.#epoch
  }
}

/** The transaction that a fiber is in. */
export const CurrentTransaction: Context.Reference<Transaction | undefined> = Context.Reference<
  Transaction | undefined
>("@event-flow/simulation/internal/CurrentTransaction", { defaultValue: () => undefined })
