/** The library under simulation, and changes of it that break a promise: each is found. */
import { assert, describe, it } from "@effect/vitest"
import { type Part, parts } from "./library/parts.ts"
import { type Mutant, runWith } from "./support/mutants.ts"

describe("no seed breaks a promise of", () => {
  const seeds: Record<Part, number> = { closing: 1000, consumer: 300, mediator: 1000, memoryBroker: 1000, tracker: 300 }
  for (const [part, run] of Object.entries(parts)) {
    it(part, () => {
      for (let seed = 1; seed <= seeds[part as Part]; seed++) {
        const broken = run(seed)
        if (broken !== undefined) assert.fail(`seed ${seed}: ${broken}`)
      }
    })
  }
})

interface LibraryMutant extends Mutant {
  readonly part: Part
  /** Within so many seeds. */
  readonly seeds: number
}

const mutants: ReadonlyArray<LibraryMutant> = [
  {
    name: "a command starts after its flow was closed",
    part: "closing",
    seeds: 60_000,
    file: "dispatch/inFlight.ts",
    text: "if (this.#isClosed) return false",
    change: ""
  },
  {
    name: "a close does not wait for a command that has begun",
    part: "closing",
    seeds: 60_000,
    file: "dispatch/inFlight.ts",
    text: "if (this.#closeIfIdle(self)) return Effect.void",
    change: "if (this.#isIdle(self)) return Effect.sync(() => { this.#isClosed = true })"
  },
  {
    name: "a tracked run misses the end of what it waits for",
    part: "tracker",
    seeds: 1000,
    file: "core/src/BrokerLayer.ts",
    text: "        const found = look()\n        if (found !== undefined) return resume(found)\n      } while",
    change: "      } while"
  },
  {
    name: "a message behind one that was taken away is forgotten",
    part: "consumer",
    seeds: 3000,
    file: "consumer/lanes.ts",
    text:
      "    // What was behind an item that was held may have its turn now, and no worker to notice\n    this.start()\n",
    change: ""
  },
  {
    name: "two of a lane run at once",
    part: "consumer",
    seeds: 3000,
    file: "consumer/lanes.ts",
    text: "    if (lane.isActive) return\n",
    change: ""
  },
  {
    name: "a consumer closes without waiting for its handlers",
    part: "consumer",
    seeds: 3000,
    file: "consumer/pump.ts",
    text: "yield* Effect.addFinalizer(() => drain(lanes, halt, options))",
    change: ""
  }
]

describe("found:", () => {
  for (const mutant of mutants) {
    it(mutant.name, async () => {
      const { code, output } = await runWith("library/main.ts", mutant, [String(mutant.seeds), "1", mutant.part])
      assert.strictEqual(code, 1, output)
      assert.match(output, /, seed \d+: /)
    })
  }
})
