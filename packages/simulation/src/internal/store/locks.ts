/** Which transaction may write a row, and which wait for it. */
import type { Transaction } from "./transaction.ts"

interface Waiter {
  readonly transaction: Transaction
  readonly go: () => void
}

export class Locks {
  readonly #owners = new Map<string, Transaction>()
  readonly #waiters = new Map<string, Array<Waiter>>()

  /** Runs `go` when the transaction has the row: now, or later. Gives a function that gives up. */
  acquire(row: string, transaction: Transaction, go: () => void): void | (() => void) {
    const owner = this.#owners.get(row)
    if (owner === undefined || owner === transaction) {
      this.#own(row, transaction)
      return go()
    }
    transaction.waitsFor = row
    const waiter: Waiter = { transaction, go }
    const waiters = this.#waiters.get(row) ?? []
    this.#waiters.set(row, waiters)
    waiters.push(waiter)
    return () => {
      const i = waiters.indexOf(waiter)
      if (i >= 0) waiters.splice(i, 1)
      transaction.waitsFor = undefined
    }
  }

  /** Whether the transaction would wait for one that waits for it. */
  isDeadlock(row: string, transaction: Transaction): boolean {
    let owner = this.#owners.get(row)
    const seen = new Set<Transaction>()
    while (owner !== undefined && !seen.has(owner)) {
      if (owner === transaction) return seen.size > 0
      seen.add(owner)
      owner = owner.waitsFor === undefined ? undefined : this.#owners.get(owner.waitsFor)
    }
    return false
  }

  releaseAll(transaction: Transaction): void {
    const rows = [...transaction.locks]
    transaction.locks.clear()
    for (const row of rows) this.#owners.delete(row)
    for (const row of rows) this.#next(row)
  }

  #own(row: string, transaction: Transaction): void {
    this.#owners.set(row, transaction)
    transaction.locks.add(row)
  }

  #next(row: string): void {
    const waiters = this.#waiters.get(row)
    while (waiters !== undefined && waiters.length > 0) {
      if (this.#owners.has(row)) return
      const { go, transaction } = waiters.shift()!
      if (transaction.isDead) continue
      transaction.waitsFor = undefined
      this.#own(row, transaction)
      go()
      // It may have committed at once
      if (this.#owners.get(row) === transaction) return
    }
  }
}
