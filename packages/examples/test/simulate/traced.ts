/** All that some runs of the orders do, as text; as a program, its hash. */
import { type Finding, Scenario, Simulation } from "@event-flow/simulation"
import { Effect } from "effect"
import { createHash } from "node:crypto"
import { bugs } from "../../src/simulate/bugs.ts"
import { scenario } from "../../src/simulate/scenario.ts"

/** A recording of any seed, which never keeps its promise, tells its story. */
const story = (seed: number): string => {
  const { clients, nodes } = scenario(bugs[seed % 2 === 0 ? "dual-write" : "state-in-memory"])
  const broken = Scenario.make(nodes, {
    clients: { ...clients, log: [Scenario.step("log", Effect.log("hello", { seed }))] },
    eventually: {
      never: (view) =>
        JSON.stringify([view.messages("orders"), view.messages("prices")].flat().map(({ attributes }) => attributes))
    }
  })
  const { finding } = Simulation.replay(broken, {
    seed,
    schedule: { order: "random", preemption: 0.05, latency: 20, pause: 300 },
    faults: [
      { operation: "shop: commit orders, outbox", do: "crashAfter", downFor: 200 },
      { operation: "totals: commit inbox, shownPrices", do: "failAfter" },
      { operation: "totals: update customerTotals/ann", do: "failBefore" },
      { time: 700, do: "restart", process: "totals-1" }
    ]
  })
  return finding === undefined ? "kept" : String(finding satisfies Finding.Finding)
}

/** Other seeds run before, which must not matter. */
export const traced = (others: number): string => {
  if (others > 0) Simulation.check(scenario(), { seeds: others, from: 5000 })
  return Array.from({ length: 40 }, (_, seed) => story(seed)).join("\n")
}

if (process.argv[1] === import.meta.filename) {
  console.log(createHash("sha256").update(traced(Number(process.argv[2]))).digest("hex"))
}
