/** What happens to a message that could not be handled: asks the policy until it decides, and does what it says. */
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Schedule from "effect/Schedule"
import type * as Broker from "../../Broker.ts"
import * as ConsumerPolicy from "../../ConsumerPolicy.ts"
import type * as Message from "../../Message.ts"
import { describe, describeId } from "../describe.ts"
import { type Aside, toCopy, toDeadLetter, toPostponed, withoutForeign } from "./aside.ts"
import { History } from "./history.ts"
import { isSuspicious, type Outage, type Suspicious } from "./outage.ts"
import { causeOf, kindOf, underlying } from "./reasons.ts"
import type { Watch } from "./watch.ts"
import type { DeliveryWorker } from "./worker.ts"

export interface Options<E> {
  readonly group: string
  readonly policy: ConsumerPolicy.ConsumerPolicy
  readonly watch: Watch
  /** Undefined: it does not tell outages. */
  readonly outage: Outage | undefined
  /** Done when the consumer closes: what only waits is given back. */
  readonly closing: Deferred.Deferred<void>
  /** The error that ends the consumer. */
  readonly stopped: (message: Message.Message, detail: string, cause: unknown) => E
}

/** Takes the first failure of a delivery. It fails only when the consumer must end. */
export type AfterFailure<E> = (worker: DeliveryWorker, failure: ConsumerPolicy.Failure) => Effect.Effect<void, E>

export const makeAfterFailure = <E>(options: Options<E>): AfterFailure<E> => {
  const { closing, outage, policy } = options
  const conclude = makeConclude(options)
  return Effect.fnUntraced(function*(worker, first) {
    const history = worker.history ??= new History()
    let failure: ConsumerPolicy.Failure | undefined = first
    while (failure !== undefined) {
      history.note(failure, yield* Clock.currentTimeMillis)
      yield* logBug(failure)
      worker.why = { cause: causeOf(failure) }
      const decision = decide(policy, failure)
      worker.why = { cause: causeOf(failure), decision }
      const suspicious: Suspicious | undefined = outage !== undefined && isSuspicious(failure, decision)
        ? failure
        : undefined
      let isOverdue = false
      if (suspicious !== undefined) {
        const now = yield* Clock.currentTimeMillis
        outage!.failed(worker.delivery, history, suspicious, now)
        isOverdue = suspicious._tag !== "InboxFailed" && outage!.isOverdue(now)
        if (outage!.isPaused && !isOverdue) return worker.hold(now)
      }
      if (decision?._tag === "Retry" && !isOverdue) {
        const kind = kindOf(failure)
        const next = history.schedules.get(kind) ?? (yield* Schedule.toStepWithSleep(decision.schedule))
        history.schedules.set(kind, next)
        // Undefined: nobody is to wait any more
        const waited: Exit.Exit<unknown, unknown> | undefined = yield* Effect.raceFirst(
          Effect.exit(next(failure)),
          Effect.as(Deferred.await(closing), undefined)
        )
        if (waited === undefined || worker.delivery.isRevoked()) return yield* worker.giveBack()
        if (Exit.isSuccess(waited)) {
          if (suspicious !== undefined && outage!.isPaused) return worker.hold(yield* Clock.currentTimeMillis)
          failure = yield* worker.retry
          continue
        }
        if (Cause.hasInterrupts(waited.cause)) return yield* Effect.interrupt
      }
      const last = decision?._tag === "Retry" ? decision.otherwise : decision
      worker.why = { cause: causeOf(failure), decision: last }
      if (suspicious !== undefined && !isOverdue && isPassedOver(last)) {
        const now = yield* Clock.currentTimeMillis
        if (outage!.isHeldFirst(history, suspicious, now)) return worker.hold(now)
      }
      return yield* conclude(worker, failure, last)
    }
  })
}

/** A failure of the inbox is not the message's fault: no decision puts it aside. */
const decide = (
  policy: ConsumerPolicy.ConsumerPolicy,
  failure: ConsumerPolicy.Failure
): ConsumerPolicy.Decision => {
  const decision = policy(failure)
  if (failure._tag !== "InboxFailed" || decision?._tag === "Stop") return decision
  if (decision?._tag !== "Retry") return ConsumerPolicy.retry(ConsumerPolicy.inboxSchedule)
  const { otherwise, schedule } = decision
  return otherwise._tag === "Stop"
    ? decision
    : ConsumerPolicy.retry(Schedule.concat(schedule, ConsumerPolicy.inboxSchedule), otherwise)
}

/** Whether the flow does not see the message again. */
const isPassedOver = (decision: ConsumerPolicy.Final | ConsumerPolicy.Postpone | undefined): boolean =>
  decision?._tag === "DeadLetter" || decision?._tag === "Skip" || decision?._tag === "Ignore"

/** A bug is logged whatever the decision. */
const logBug = (failure: ConsumerPolicy.Failure): Effect.Effect<void> => {
  const id = describeId(failure.message)
  if (failure._tag === "HandlerDied") return Effect.logError(`A handler died on message ${id}`, failure.cause)
  return failure._tag === "Undecodable" && failure.error.cause !== undefined
    ? Effect.logError(`Decoding died on message ${id}`, Cause.die(failure.error.cause))
    : Effect.void
}

const makeConclude = <E>({ closing, group, stopped, watch }: Options<E>) => {
  /**
   * Retried for as long as that may help: the message stays unacknowledged meanwhile. What the broker refuses is
   * published in another form, which fits where the message itself did. Gives false when the consumer closes before it
   * has succeeded.
   */
  const publishAside = (
    worker: DeliveryWorker,
    what: "dead letter" | "retry",
    aside: Message.Message,
    otherwise: (error: Broker.PublishError) => Effect.Effect<boolean, E> | undefined
  ): Effect.Effect<boolean, E> => {
    const published = Effect.as(watch.publish(worker, aside), true).pipe(
      Effect.tapError((error) => Effect.logError(`Could not publish a ${what} to "${aside.topic}"`, error)),
      Effect.retry({
        schedule: asideBackoff,
        while: (error) => error._tag === "PublishError" && error.isRetryable
      }),
      Effect.catch((error) =>
        (isRefused(error) ? otherwise(error) : undefined) ??
          Effect.fail(stopped(worker.message, `its ${what} cannot be published: ${error.message}`, error))
      )
    )
    // What is on its way may still be confirmed
    const closed = Effect.andThen(Deferred.await(closing), Effect.sleep(closingGrace))
    return Effect.raceFirst(published, Effect.as(closed, false))
  }

  /** As it is to be, then without the headers that it came with, and then as it came, which is no larger than it was. */
  const publishDeadLetter = (worker: DeliveryWorker, aside: Message.Message): Effect.Effect<boolean, E> => {
    const asItCame = () => publishAside(worker, "dead letter", toCopy(worker.delivery, aside.topic), () => undefined)
    return publishAside(worker, "dead letter", aside, () => {
      const bare = withoutForeign(aside)
      return bare === undefined ? asItCame() : publishAside(worker, "dead letter", bare, asItCame)
    })
  }

  return Effect.fnUntraced(function*(
    worker: DeliveryWorker,
    failure: ConsumerPolicy.Failure,
    decision: ConsumerPolicy.Final | ConsumerPolicy.Postpone
  ) {
    const { attempts, delivery, memory, message } = worker
    const history = worker.history!
    const asideOf = (topic: string): Aside => ({ attempts, delivery, failure, group, history, memory, topic })
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
        const aside = toPostponed(asideOf(topic), { due, step: decision.step })
        let isDead = false
        const isOut = yield* publishAside(worker, "retry", aside, () => {
          // Without its headers it would be another message to its handlers
          isDead = true
          const deadLetterTopic = `${message.topic}.dead-letter`
          worker.why = { cause: causeOf(failure), decision, topic: deadLetterTopic }
          return publishDeadLetter(worker, toDeadLetter(asideOf(deadLetterTopic)))
        })
        if (!isOut) return yield* worker.giveBack()
        if (isDead) {
          yield* Effect.logWarning(`Dead-lettered ${name}, whose retry the broker refused`, why)
          return yield* worker.settle("dead_lettered")
        }
        yield* Effect.logInfo(`Postponed ${name} to topic "${topic}"`, why)
        return yield* worker.settle("postponed")
      }
      case "DeadLetter": {
        const topic = decision.topic ?? ConsumerPolicy.deadLetterTopic(message.topic)
        worker.why = { cause: causeOf(failure), decision, topic }
        const aside = toDeadLetter(asideOf(topic))
        if (!(yield* publishDeadLetter(worker, aside))) return yield* worker.giveBack()
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
const isRefused = (error: Broker.BrokerNotFound | Broker.PublishError): error is Broker.PublishError =>
  error._tag === "PublishError" &&
  (error.reason._tag === "MessageTooLarge" || error.reason._tag === "Rejected" || error.reason._tag === "EncodeFailed")

const closingGrace = "500 millis"

const asideBackoff = Schedule.min([Schedule.exponential("200 millis"), Schedule.spaced("30 seconds")])
