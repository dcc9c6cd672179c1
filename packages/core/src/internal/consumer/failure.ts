/** What happens to a message that could not be handled: asks the policy until it decides, and does what it says. */
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Schedule from "effect/Schedule"
import type * as Broker from "../../Broker.ts"
import type * as ConsumerPolicy from "../../ConsumerPolicy.ts"
import type * as Message from "../../Message.ts"
import { describe, describeId } from "../describe.ts"
import { toDeadLetter, toPostponed, withoutForeign } from "./aside.ts"
import { causeOf, kindOf, underlying } from "./reasons.ts"
import type { Watch } from "./watch.ts"
import type { DeliveryWorker } from "./worker.ts"

export interface Options<E> {
  readonly group: string
  readonly policy: ConsumerPolicy.ConsumerPolicy
  readonly watch: Watch
  /** The error that ends the consumer. */
  readonly stopped: (message: Message.Message, detail: string, cause: unknown) => E
}

/** Takes the first failure of a delivery. It fails only when the consumer must end. */
export type AfterFailure<E> = (worker: DeliveryWorker, failure: ConsumerPolicy.Failure) => Effect.Effect<void, E>

export const makeAfterFailure = <E>(options: Options<E>): AfterFailure<E> => {
  const conclude = makeConclude(options)
  return Effect.fnUntraced(function*(worker, first) {
    let failure: ConsumerPolicy.Failure | undefined = first
    const schedules = new Map<string, (input: ConsumerPolicy.Failure) => Effect.Effect<unknown, unknown>>()
    while (failure !== undefined) {
      yield* logBug(failure)
      worker.why = { cause: causeOf(failure) }
      const decision: ConsumerPolicy.Decision = options.policy(failure)
      worker.why = { cause: causeOf(failure), decision }
      if (decision?._tag !== "Retry") return yield* conclude(worker, failure, decision)
      const kind = kindOf(failure)
      const next = schedules.get(kind) ?? (yield* Schedule.toStepWithSleep(decision.schedule))
      schedules.set(kind, next)
      const ended = yield* Effect.exit(next(failure))
      if (Exit.isFailure(ended)) {
        if (Cause.hasInterrupts(ended.cause)) return yield* Effect.interrupt
        worker.why = { cause: causeOf(failure), decision: decision.otherwise }
        return yield* conclude(worker, failure, decision.otherwise)
      }
      if (worker.delivery.isRevoked()) return yield* worker.giveBack()
      failure = yield* worker.retry
    }
  })
}

/** A bug is logged whatever the decision. */
const logBug = (failure: ConsumerPolicy.Failure): Effect.Effect<void> => {
  const id = describeId(failure.message)
  if (failure._tag === "HandlerDied") return Effect.logError(`A handler died on message ${id}`, failure.cause)
  return failure._tag === "Undecodable" && failure.error.cause !== undefined
    ? Effect.logError(`Decoding died on message ${id}`, Cause.die(failure.error.cause))
    : Effect.void
}

const makeConclude = <E>({ group, stopped, watch }: Options<E>) => {
  /**
   * Retried for as long as that may help: the message stays unacknowledged meanwhile. What the broker refuses is
   * published without the headers that it came with, which may be more than fits into one more message.
   */
  const publishAside = (
    worker: DeliveryWorker,
    what: "dead letter" | "retry",
    aside: Message.Message
  ): Effect.Effect<void, E> =>
    watch.publish(worker, aside).pipe(
      Effect.tapError((error) => Effect.logError(`Could not publish a ${what} to "${aside.topic}"`, error)),
      Effect.retry({
        schedule: asideBackoff,
        while: (error) => error._tag === "PublishError" && error.isRetryable
      }),
      Effect.catch((error) => {
        const bare = isRefused(error) ? withoutForeign(aside) : undefined
        return bare === undefined
          ? Effect.fail(stopped(worker.delivery.message, `its ${what} cannot be published: ${error.message}`, error))
          : publishAside(worker, what, bare)
      })
    )

  return Effect.fnUntraced(function*(
    worker: DeliveryWorker,
    failure: ConsumerPolicy.Failure,
    decision: ConsumerPolicy.Final | ConsumerPolicy.Postpone
  ) {
    const { attempts, delivery } = worker
    const { message } = delivery
    const name = `message ${describeId(message)} of topic "${message.topic}"`
    const why = describe(underlying(failure))
    switch (decision?._tag) {
      case "Skip":
        yield* Effect.logWarning(`Skipped ${name}`, why)
        return yield* worker.settle("skipped")
      case "Ignore":
        yield* Effect.logDebug(`Ignored ${name}`, why)
        return yield* worker.settle("skipped")
      case "Stop":
        return yield* Effect.fail(stopped(message, "the policy says so", underlying(failure)))
      case "Postpone": {
        const { topic } = decision
        const due = (yield* Clock.currentTimeMillis) + Math.ceil(Duration.toMillis(decision.delay))
        worker.why = { cause: causeOf(failure), decision, topic, due }
        yield* publishAside(worker, "retry", toPostponed(delivery, failure, decision, { attempts, due, group }))
        yield* Effect.logInfo(`Postponed ${name} to topic "${topic}"`, why)
        return yield* worker.settle("postponed")
      }
      case "DeadLetter": {
        const topic = decision.topic ?? `${message.topic}.dead-letter`
        worker.why = { cause: causeOf(failure), decision, topic }
        yield* publishAside(worker, "dead letter", toDeadLetter(delivery, failure, { attempts, group, topic }))
        yield* Effect.logWarning(`Dead-lettered ${name} after ${attempts} attempt(s)`, why)
        return yield* worker.settle("dead_lettered")
      }
      default:
        return yield* Effect.die(
          new Error(
            `The policy of consumer "${group}" answered with ${describe(decision)} to a failure of ${name}: ` +
              "answer with one of ConsumerPolicy.retry, deadLetter, skip, ignore and stop"
          )
        )
    }
  })
}

/** The broker may take another message. */
const isRefused = (error: Broker.BrokerNotFound | Broker.PublishError): boolean =>
  error._tag === "PublishError" &&
  (error.reason._tag === "MessageTooLarge" || error.reason._tag === "Rejected" || error.reason._tag === "EncodeFailed")

const asideBackoff = Schedule.min([Schedule.exponential("200 millis"), Schedule.spaced("30 seconds")])
