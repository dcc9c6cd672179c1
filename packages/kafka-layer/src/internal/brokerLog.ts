/** Logs which brokers cannot be reached, once for each time. */
import * as Effect from "effect/Effect"
import type * as KafkaError from "./errors.ts"

export class BrokerLog {
  /** Undefined stands for all of them: no broker could be asked. */
  readonly #silent = new Set<number | undefined>()

  /** Whether this failure says that a broker cannot be reached. */
  static isSilence(failure: KafkaError.Failure | undefined): boolean {
    return failure?.kind === "unreachable" || failure?.kind === "timeout"
  }

  /** Notes how a request to a broker ended; `node` is undefined where any of them would do. */
  note(node: number | undefined, failure: KafkaError.Failure | undefined): Effect.Effect<void> {
    return Effect.suspend(() => {
      const broker = node === undefined ? "Kafka" : `Node ${node} of Kafka`
      if (!BrokerLog.isSilence(failure)) {
        return this.#silent.delete(node) ? Effect.logInfo(`${broker} is reachable again`) : Effect.void
      }
      if (this.#silent.has(node)) return Effect.void
      this.#silent.add(node)
      return Effect.logWarning(`${broker} is not reachable, trying again`, failure?.detail)
    })
  }
}
