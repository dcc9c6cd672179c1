/**
 * What every pair of a `Broker` and a `Subscriber` promises, as tests to run
 * against yours: the behaviours of Watermill's universal pub/sub suite, and those
 * that the event consumer relies on.
 *
 * **Example** (Registering it with vitest)
 *
 * ```ts no-run
 * import { describe, it } from "@effect/vitest"
 * import { MemoryBroker } from "@event-flow/core"
 * import { BrokerSuite } from "@event-flow/core/testing"
 *
 * const suite = BrokerSuite.make("memory", MemoryBroker.layer(), {
 *   persistentTopics: true,
 *   oldMessagesForNewGroups: true
 * })
 *
 * describe(suite.name, () => {
 *   for (const { name, run } of suite.cases) it.live(name, () => run, 60_000)
 *   for (const { name, reason } of suite.skipped) it.skip(`${name} (${reason})`)
 * })
 * ```
 *
 * @stability unstable
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import type * as Layer from "effect/Layer"
import type * as Broker from "../Broker.ts"
import type * as Subscriber from "../Subscriber.ts"
import { acknowledging } from "./brokerSuite/cases/acknowledging.ts"
import { closing } from "./brokerSuite/cases/closing.ts"
import { consumer } from "./brokerSuite/cases/consumer.ts"
import { groups } from "./brokerSuite/cases/groups.ts"
import { ordering } from "./brokerSuite/cases/ordering.ts"
import { publishing } from "./brokerSuite/cases/publishing.ts"
import { restart } from "./brokerSuite/cases/restart.ts"
import { type Features, has } from "./brokerSuite/features.ts"
import { Bench, type Definition } from "./brokerSuite/kit.ts"

/**
 * What a pair promises beyond the ports, and how the suite prepares it. A
 * promise that is not made skips the cases that need it.
 *
 * @stability unstable
 * @category models
 * @since 0.1.0
 */
export type { Features } from "./brokerSuite/features.ts"

/**
 * One test.
 *
 * @stability unstable
 * @category models
 * @since 0.1.0
 */
export interface Case {
  readonly name: string
  /**
   * Runs it, with its own build of the pair's layer, topics and groups: cases
   * may run side by side. It dies with an `Error` that says what was expected.
   * Needs the live clock.
   */
  readonly run: Effect.Effect<void, unknown>
}

/**
 * The tests of a pair.
 *
 * @stability unstable
 * @category models
 * @since 0.1.0
 */
export interface BrokerSuite {
  readonly name: string
  readonly cases: ReadonlyArray<Case>
  /** What the features leave out. */
  readonly skipped: ReadonlyArray<{ readonly name: string; readonly reason: string }>
}

/**
 * The tests of a pair of a `Broker` and a `Subscriber`.
 *
 * @stability unstable
 * @category constructors
 * @since 0.1.0
 */
export const make = <E>(
  name: string,
  layer: Layer.Layer<Broker.Broker | Subscriber.Subscriber, E>,
  features: Features = {}
): BrokerSuite => {
  const cases: Array<Case> = []
  const skipped: Array<BrokerSuite["skipped"][number]> = []
  for (const definition of definitions) {
    const reason = whySkipped(definition, features)
    if (reason !== undefined) {
      skipped.push({ name: definition.name, reason })
      continue
    }
    cases.push({
      name: definition.name,
      run: Effect.suspend(() => definition.run(new Bench(layer, features))).pipe(Effect.scoped, Effect.provide(layer))
    })
  }
  return { name: `BrokerSuite: ${name}`, cases, skipped }
}

// --- internal ---

const definitions: ReadonlyArray<Definition> = [
  ...publishing,
  ...groups,
  ...acknowledging,
  ...closing,
  ...ordering,
  ...consumer,
  ...restart
]

const whySkipped = ({ lacks, needs }: Definition, features: Features): string | undefined => {
  const missing = needs?.find((feature) => !has(features, feature))
  if (missing !== undefined) return `not promised: ${missing}`
  const present = lacks?.find((feature) => has(features, feature))
  return present === undefined ? undefined : `for brokers without: ${present}`
}
