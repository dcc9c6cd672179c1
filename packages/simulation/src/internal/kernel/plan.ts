/** Which operation has which fault: drawn from rates, or from a list. */
import type { Fault, OperationFault, Rates, TimedFault } from "../../Fault.ts"
import type { Schedule } from "../../Recording.ts"
import { hash, Prng, unit } from "../seeded.ts"

/** What an operation is, which decides how it can fail. */
export type Kind = "publish" | "statement" | "take" | "ack" | "nack" | "call" | "other"

export interface Plan {
  readonly faultOf: (operation: string, kind: Kind) => OperationFault | undefined
  readonly timed: ReadonlyArray<TimedFault>
}

const canFail = (kind: Kind): boolean =>
  kind === "publish" || kind === "statement" || kind === "call" || kind === "other"

/** The faults of a list and no others: each stays at its operation, whatever becomes of the others. */
export const listed = (faults: ReadonlyArray<Fault>): Plan => {
  const byOperation = new Map<string, OperationFault>()
  const timed: Array<TimedFault> = []
  for (const fault of faults) {
    if ("time" in fault) timed.push(fault)
    else byOperation.set(fault.operation, fault)
  }
  return { faultOf: (operation) => byOperation.get(operation), timed }
}

/**
 * Faults by chance. Whether an operation has one hangs on the seed and on its name alone, and on nothing that was drawn
 * before: without one of the faults the others are where they were.
 */
export const drawn = (seed: number, rates: Rates, processes: ReadonlyArray<string>): Plan => ({
  faultOf: (operation, kind) => {
    let left = unit(seed, operation)
    const v = unit(seed, `${operation}!`)
    const isHit = (rate: number): boolean => (left -= rate) < 0
    // A client is no process of the system
    if (kind !== "call" && isHit(rates.crashes)) {
      return { operation, do: v < 0.5 ? "crashBefore" : "crashAfter", downFor: Math.round(v * 4000) / 2 }
    }
    if (canFail(kind) && isHit(rates.failsBefore)) return { operation, do: "failBefore" }
    if (canFail(kind) && isHit(rates.failsAfter)) return { operation, do: "failAfter" }
    if (kind === "publish" && isHit(rates.duplicates)) return { operation, do: "duplicate" }
    if (kind === "ack" && isHit(rates.lostAcks)) return { operation, do: "loseAck", count: 1 + Math.floor(v * 3) }
    if (kind === "call" && isHit(rates.timeouts)) return { operation, do: "timeout", after: Math.round(v * v * 500) }
    if (isHit(rates.slow)) return { operation, do: "slow", by: Math.round(v * v * 2000) }
    return undefined
  },
  timed: drawTimed(seed, rates, processes)
})

const drawTimed = (seed: number, rates: Rates, processes: ReadonlyArray<string>): ReadonlyArray<TimedFault> => {
  const random = new Prng(hash(seed, "timed"))
  const timed: Array<TimedFault> = []
  // More of them early, when most happens
  const time = () => Math.round(random.next() ** 2 * 3000)
  const process = () => processes[random.below(processes.length)]
  for (let i = 0; i < rates.outages; i++) timed.push({ time: time(), do: "outage", lasts: 50 + random.below(3000) })
  for (let i = 0; i < rates.rebalances; i++) {
    timed.push({
      time: time(),
      do: "rebalance",
      heardAfter: random.below(3) * random.below(500),
      pick: random.below(7)
    })
  }
  for (let i = 0; i < rates.restarts; i++) {
    const one = process()
    if (one !== undefined) timed.push({ time: time(), do: "restart", process: one })
  }
  for (let i = 0; i < rates.stalls; i++) {
    const one = process()
    if (one !== undefined) timed.push({ time: time(), do: "stall", process: one, lasts: 100 + random.below(3000) })
  }
  return timed
}

/** What a run of this seed has: its schedule, and the rates of its faults below the limits. */
export const swarm = (seed: number, limits: Partial<Rates>): { readonly rates: Rates; readonly schedule: Schedule } => {
  const random = new Prng(hash(seed, "swarm"))
  const rate = (name: keyof Rates, first: number, ...more: ReadonlyArray<number>): number => {
    const value = random.pick([first, ...more])
    return random.next() < 0.5 ? 0 : Math.min(value, limits[name] ?? Infinity)
  }
  const rates: Rates = {
    crashes: rate("crashes", 0.005, 0.02, 0.05),
    failsBefore: rate("failsBefore", 0.01, 0.05, 0.2),
    failsAfter: rate("failsAfter", 0.01, 0.05, 0.2),
    duplicates: rate("duplicates", 0.05, 0.2),
    lostAcks: rate("lostAcks", 0.05, 0.2),
    slow: rate("slow", 0.01, 0.1),
    outages: rate("outages", 1, 2),
    rebalances: rate("rebalances", 1, 4),
    restarts: rate("restarts", 1, 3),
    stalls: rate("stalls", 1, 2),
    timeouts: rate("timeouts", 0.05, 0.2)
  }
  const schedule: Schedule = {
    order: random.next() < 0.25 ? "fifo" : "random",
    preemption: random.pick([0, 0, 0.01, 0.1]),
    latency: random.pick([0, 2, 20, 200]),
    pause: random.pick([0, 0, 300, 2000])
  }
  return { rates, schedule }
}

/** Every fault that an operation of this kind can have, once. */
export const everyFault = (operation: string, kind: Kind): ReadonlyArray<OperationFault> => [
  ...(kind === "call"
    ? [{ operation, do: "timeout", after: 0 }] as const
    : [{ operation, do: "crashBefore", downFor: 500 }, { operation, do: "crashAfter", downFor: 500 }] as const),
  ...(canFail(kind) ? [{ operation, do: "failBefore" }, { operation, do: "failAfter" }] as const : []),
  ...(kind === "publish" ? [{ operation, do: "duplicate" }] as const : []),
  ...(kind === "ack"
    ? [{ operation, do: "loseAck", count: 1 }, { operation, do: "loseAck", count: 3 }] as const
    : []),
  { operation, do: "slow", by: 700 }
]
