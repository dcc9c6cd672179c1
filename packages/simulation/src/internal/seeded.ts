/** Choices that a seed decides. */

/**
 * FNV-1a with a final mix. What hangs on a name and not on the numbers drawn before it stays where it is when something
 * else is taken away.
 */
export const hash = (seed: number, text: string): number => {
  let h = (0x811c9dc5 ^ seed) >>> 0
  for (let i = 0; i < text.length; i++) h = Math.imul(h ^ text.charCodeAt(i), 0x01000193)
  h = Math.imul(h ^ (h >>> 16), 0x85ebca6b)
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35)
  return (h ^ (h >>> 16)) >>> 0
}

/** A number from 0 up to 1 that belongs to a name. */
export const unit = (seed: number, text: string): number => hash(seed, text) / 0x100000000

/** Mulberry32: one draw after another. */
export class Prng {
  #state: number

  constructor(seed: number) {
    this.#state = seed >>> 0
  }

  /** From 0 up to 1. */
  next(): number {
    let t = (this.#state += 0x6d2b79f5)
    t = Math.imul(t ^ (t >>> 15), t | 1)
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61)
    return ((t ^ (t >>> 14)) >>> 0) / 0x100000000
  }

  below(n: number): number {
    return Math.floor(this.next() * n)
  }

  pick<A>(values: readonly [A, ...Array<A>]): A {
    // The index is below the length
    return values[this.below(values.length)] as A
  }
}
