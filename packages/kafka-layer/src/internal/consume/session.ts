/**
 * One membership in a consumer group, from joining to the loss of it: the
 * client's `Consumer` and what is built on it. Rebalances happen within a
 * session; when the membership is lost for good, the session fails and its owner
 * begins another.
 *
 * The client's stream is not used, nor its `commit`: a rebalance leaves messages
 * of lost partitions in the one, and the other can move a group back.
 */
import type * as Health from "@event-flow/core/Health"
import type * as Subscriber from "@event-flow/core/Subscriber"
import type { ConnectionPool, Consumer, GroupAssignment } from "@platformatic/kafka"
import type * as Clock from "effect/Clock"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Fiber from "effect/Fiber"
import * as FiberSet from "effect/FiberSet"
import * as Metric from "effect/Metric"
import * as Schedule from "effect/Schedule"
import * as Scope from "effect/Scope"
import * as Semaphore from "effect/Semaphore"
import * as KafkaMetrics from "../../KafkaMetrics.ts"
import type * as KafkaRetry from "../../KafkaRetry.ts"
import { watch } from "../answers.ts"
import type { Answers } from "../answers.ts"
import { baseOptions, call, promise } from "../client.ts"
import type { ClusterMetadata } from "../client.ts"
import * as KafkaError from "../errors.ts"
import { Alarm } from "../retry/alarm.ts"
import { Hold } from "../retry/hold.ts"
import type { ConsumerSettings } from "../settings.ts"
import { AssignedPartition } from "./assignedPartition.ts"
import { assignPartitions } from "./assignor.ts"
import * as Committer from "./committer.ts"
import { FetchConnections } from "./fetchConnections.ts"
import * as Fetcher from "./fetcher.ts"
import { GroupConsumer } from "./groupConsumer.ts"
import type { Intake } from "./intake.ts"
import * as Offsets from "./offsets.ts"
import type { TopicHistories } from "./topicHistory.ts"

export interface Options {
  readonly settings: ConsumerSettings
  /** Retry topics are among its topics. */
  readonly subscribe: Subscriber.SubscribeOptions
  readonly retryTopics: ReadonlyArray<KafkaRetry.RetryTopic>
  readonly intake: Intake
  readonly clock: Clock.Clock
  readonly metrics: boolean
  /** What the sessions of a subscription have in common. */
  readonly memory: Memory
  /** Interrupts the handlers of what was revoked. */
  readonly notifyRevoked: Effect.Effect<void>
  readonly onState: (state: Health.State, detail: string | undefined) => Effect.Effect<void>
}

export interface Memory {
  readonly answers: Answers
  readonly histories: TopicHistories
  /**
   * As whom the group knows the subscription: under another name it would wait for itself, for as long as the group
   * waits for a member that does not answer.
   */
  memberId: string | undefined
  /** Whether it has been a member of its group: topics that are missing now were deleted since. */
  hasConsumed: boolean
  missingTopics: ReadonlyArray<string>
}

/** Whether trying again is useless. */
export const isFinal = (failure: KafkaError.Failure): boolean =>
  failure.kind === "unknownTopic" || failure.kind === "unauthorised" || failure.kind === "outOfRange"

/** Runs a session; ends by failing. Closing the scope commits what is done and leaves the group. */
export const run: (options: Options) => Effect.Effect<never, KafkaError.Failure, Scope.Scope> = Effect.fnUntraced(
  function*(options) {
    const { memory, settings, subscribe } = options
    const fork = yield* FiberSet.runtime(yield* FiberSet.make<void>())<never>()
    const asPromise = yield* FiberSet.runtimePromise(yield* FiberSet.make<Buffer>())<never>()
    const consumer: Consumer = yield* Effect.acquireRelease(
      Effect.sync(() => {
        const consumer = new GroupConsumer({
          ...baseOptions(settings),
          groupId: subscribe.group,
          // A JoinGroup request is answered when the last member has joined
          requestTimeout: settings.rebalanceTimeout + settings.requestTimeout,
          sessionTimeout: settings.sessionTimeout,
          rebalanceTimeout: settings.rebalanceTimeout,
          heartbeatInterval: settings.heartbeatInterval,
          autocommit: false,
          retries: 5,
          retryDelay: settings.reconnectDelay,
          // By the second name it shares a group with Java's clients, whose defaults do not have the first. The leader
          // of a group is free in what it assigns by either.
          protocols: [{ name: "roundrobin", version: 1 }, { name: "range", version: 1 }],
          partitionAssigner: assignPartitions,
          // The client awaits this before each JoinGroup: here partitions are given up
          protocolsMetadata: (_protocols, _topics, metadata) => asPromise(session.beforeJoin(metadata))
        })
        watch(consumer.connections, memory.answers, settings)
        consumer.memberId = memory.memberId ?? null
        return consumer
      }),
      (consumer) => close(consumer, settings.drainTimeout)
    )
    const topics = yield* existingTopics(consumer, options)
    const pool = yield* Effect.acquireRelease(
      Effect.sync(() => {
        const requestTimeout = settings.requestTimeout + settings.fetchWait
        const pool = new FetchConnections(settings.clientId, { ...baseOptions(settings), requestTimeout })
        watch(pool, memory.answers, { connectTimeout: settings.connectTimeout, requestTimeout })
        return pool
      }),
      (pool) => Effect.sync(() => destroy(pool))
    )
    const session = new Session({ ...options, topics }, consumer, pool, fork)
    // Before the consumer is closed: committing needs its connections
    yield* Effect.addFinalizer(() => session.end)
    for (const topic of topics) consumer.topics.track(topic)
    // Without a listener, the client's "error" event would end the process
    consumer.on("error", (error: Error) => session.lose(KafkaError.describe(error)))
    consumer.on(
      "consumer:group:join",
      ({ assignments, generationId, memberId }) =>
        session.joined({ groupId: subscribe.group, generationId: generationId ?? -1, memberId }, assignments ?? [])
    )
    return yield* Effect.raceFirst(
      Effect.andThen(session.join, Effect.never),
      Effect.raceFirst(
        Deferred.await(session.lost),
        Effect.raceFirst(session.watch, reappearance(consumer, options))
      )
    ).pipe(Effect.mapError((failure) =>
      // Which ones, and for how long, the next session finds out
      failure.kind === "unknownTopic" ? { ...failure, kind: "stale" as const } : failure
    ))
  }
)

// --- internal ---

const noHeartbeat = "no heartbeat was answered within the session timeout: nothing is delivered until one is"

/** What one generation of the group gave to this member. */
interface Generation {
  readonly scope: Scope.Closeable
  readonly committer: Committer.Committer
}

interface SessionOptions extends Options {
  /** Those that exist. */
  readonly topics: ReadonlyArray<string>
}

class Session {
  readonly #options: SessionOptions
  readonly #consumer: Consumer
  readonly #pool: FetchConnections
  readonly #fork: (effect: Effect.Effect<void>) => unknown
  /** Rings when a message of a retry topic is due. */
  readonly #alarm: Alarm
  /** Assigning and revoking exclude each other. */
  readonly #turn = Semaphore.makeUnsafe(1)
  readonly lost = Deferred.makeUnsafe<never, KafkaError.Failure>()
  #isLost = false
  #isEnded = false
  #generation: Generation | undefined
  /** Since when the client is joining; undefined while it is a member. */
  #joiningSince: number | undefined
  #memberSince = 0
  /** Since when the offsets of the group are asked for. */
  #startingSince: number | undefined
  /** What does not answer in time. */
  #trouble: string | undefined
  /** The id and the partitions of each topic when the group was joined last. */
  #partitions = ""

  constructor(
    options: SessionOptions,
    consumer: Consumer,
    pool: FetchConnections,
    fork: (effect: Effect.Effect<void>) => Fiber.Fiber<void>
  ) {
    this.#options = options
    this.#consumer = consumer
    this.#pool = pool
    this.#fork = fork
    this.#alarm = new Alarm(options.clock, fork, () => options.intake.wake())
    this.#joiningSince = this.#now()
  }

  readonly join: Effect.Effect<void, KafkaError.Failure> = Effect.suspend(() =>
    Effect.asVoid(call<unknown>((callback) => this.#consumer.joinGroup({}, callback)))
  )

  lose(failure: KafkaError.Failure): void {
    this.#isLost = true
    Deferred.doneUnsafe(this.lost, Exit.fail(failure))
  }

  /**
   * The client awaits this before each JoinGroup request. The answer travels
   * with it, and a changed one makes the group distribute its partitions anew.
   */
  beforeJoin(metadata: ClusterMetadata): Effect.Effect<Buffer> {
    return Effect.suspend(() => {
      this.#joiningSince ??= this.#now()
      this.#partitions = describePartitions(metadata)
      this.#markReplaced(metadata)
      return Effect.as(this.#revoke("rebalance"), Buffer.from(this.#partitions))
    })
  }

  joined(membership: Offsets.Membership, assignments: ReadonlyArray<GroupAssignment>): void {
    this.#joiningSince = undefined
    this.#options.memory.memberId = membership.memberId
    this.#memberSince = this.#now()
    this.#fork(this.#turn.withPermit(Effect.suspend(() => {
      const isOutdated = this.#isEnded || this.#joiningSince !== undefined ||
        this.#consumer.generationId !== membership.generationId
      return isOutdated ? Effect.void : this.#begin(membership, assignments)
    })))
  }

  /** Gives everything back. After this, nothing of this session is delivered, and no acknowledgement counts. */
  readonly end: Effect.Effect<void> = Effect.suspend(() => {
    this.#isEnded = true
    return this.#revoke(this.#isLost ? "lost" : "close")
  })

  /**
   * Fails for a join that never ends, which the client does not notice. A member without heartbeats delivers nothing
   * until the coordinator has answered: that it is still a member, and then what was handled meanwhile is committed and
   * not handled again; or that it is none, and then the client joins again.
   */
  readonly watch: Effect.Effect<never, KafkaError.Failure> = Effect.suspend(() => {
    const { rebalanceTimeout, requestTimeout, sessionTimeout } = this.#options.settings
    const check = Effect.suspend(() => {
      const now = this.#now()
      if (this.#joiningSince === undefined) {
        const { intake } = this.#options
        intake.suspend(now - this.#heardAt > sessionTimeout)
        return this.#noteHealth(now)
      }
      if (now - this.#joiningSince <= rebalanceTimeout + requestTimeout) return Effect.void
      const detail = `joining has taken ${now - this.#joiningSince} ms`
      this.#isLost = true
      return Effect.fail<KafkaError.Failure>({ kind: "timeout", detail, cause: undefined })
    })
    return Effect.forever(Effect.andThen(Effect.sleep(Math.min(1_000, sessionTimeout / 4)), check))
  })

  /** A broker that is away for a moment is no news: each may take its time to answer. */
  #noteHealth(now: number): Effect.Effect<void> {
    const trouble = this.#generation === undefined ? undefined : this.#findTrouble(now)
    if (trouble === this.#trouble) return Effect.void
    this.#trouble = trouble
    const { onState } = this.#options
    return trouble === undefined
      ? Effect.andThen(Effect.logInfo("The brokers answer for every partition again"), onState("connected", undefined))
      : Effect.andThen(Effect.logWarning("Not all brokers answer", trouble), onState("disconnected", trouble))
  }

  #findTrouble(now: number): string | undefined {
    const { intake, settings: { fetchWait, heartbeatInterval, requestTimeout } } = this.#options
    if (intake.isSuspended) return noHeartbeat
    const silent = intake.partitions.filter((partition) => partition.isUnanswered(now))
    if (silent.length > 0) {
      return `no broker answers for ${silent.map(({ index, topic }) => `${topic}/${index}`).join(", ")}`
    }
    if (this.#startingSince !== undefined && now - this.#startingSince > fetchWait + requestTimeout) {
      return "the offsets of the group cannot be read"
    }
    return now - this.#heardAt > heartbeatInterval + requestTimeout
      ? "the coordinator of the group does not answer: nothing is committed"
      : undefined
  }

  /** When the coordinator answered last. */
  get #heardAt(): number {
    return Math.max(this.#memberSince, this.#consumer.lastHeartbeat?.getTime() ?? 0)
  }

  #now(): number {
    return this.#options.clock.currentTimeMillisUnsafe()
  }

  readonly #begin = Effect.fnUntraced({ self: this }, function*(
    membership: Offsets.Membership,
    assignments: ReadonlyArray<GroupAssignment>
  ) {
    const { intake, metrics, settings } = this.#options
    const scope = yield* Scope.make()
    const committer = Committer.make({
      settings,
      consumer: this.#consumer,
      intake,
      membership,
      metrics,
      now: () => this.#now()
    })
    this.#generation = { scope, committer }
    this.#trouble = undefined
    intake.suspend(false)
    yield* this.#consume(membership, committer, assignments).pipe(
      Effect.catch((failure) => Effect.sync(() => this.lose(failure))),
      Effect.forkIn(scope)
    )
    yield* Effect.logInfo(`Joined in generation ${membership.generationId}: ${describeAssignments(assignments)}`)
  })

  readonly #consume = Effect.fnUntraced({ self: this }, function*(
    { groupId }: Offsets.Membership,
    committer: Committer.Committer,
    assignments: ReadonlyArray<GroupAssignment>
  ) {
    const { clock, intake, memory, onState, settings, topics } = this.#options
    this.#startingSince = this.#now()
    const starts = yield* Offsets.starts(this.#consumer, {
      groupId,
      topics,
      assignments,
      histories: memory.histories,
      startFrom: (topic) => this.#retryTopic(topic) === undefined ? settings.startFrom : "earliest"
    }).pipe(
      Effect.tapError((failure) => Effect.logWarning("Could not read the offsets of the group", failure.detail)),
      Effect.retry({
        schedule: Schedule.min([Schedule.exponential(settings.reconnectDelay), Schedule.spaced("5 seconds")]),
        while: (failure) => KafkaError.isRetryable(failure.kind)
      })
    )
    const limits = {
      maxBuffered: settings.maxBufferedPerPartition,
      maxUncommitted: settings.maxUncommittedPerPartition,
      patience: settings.fetchWait + settings.requestTimeout
    }
    this.#startingSince = undefined
    intake.assign(
      assignments.flatMap(({ partitions, topic }) =>
        partitions.map((index) =>
          new AssignedPartition(topic, index, starts.get(`${topic}/${index}`)!, limits, intake.owner, this.#hold(topic))
        )
      )
    )
    // Where it begins is kept, whatever happens from now on
    yield* committer.commitNow
    memory.hasConsumed = true
    yield* onState("connected", undefined)
    const fetching = Fetcher.run({
      settings,
      topics,
      consumer: this.#consumer,
      pool: this.#pool,
      intake,
      clock,
      answers: memory.answers,
      onMetadata: (metadata) => this.#onMetadata(metadata)
    })
    return yield* Effect.raceFirst(fetching, committer.keepCommitting)
  })

  #retryTopic(name: string): KafkaRetry.RetryTopic | undefined {
    return this.#options.retryTopics.find(({ topic }) => topic === name)
  }

  #hold(name: string): Hold | undefined {
    const retryTopic = this.#retryTopic(name)
    return retryTopic === undefined ? undefined : new Hold({
      group: this.#options.subscribe.group,
      source: retryTopic.source,
      delay: retryTopic.delay,
      now: () => this.#now(),
      onHeld: (until) => this.#alarm.set(until)
    })
  }

  /** What was assigned of a topic that is not there any more says nothing about the one that has its name now. */
  #markReplaced(metadata: ClusterMetadata): void {
    for (const partition of this.#options.intake.partitions) {
      const topic = metadata.topics.get(partition.topic)
      if (topic !== undefined && topic.id !== partition.topicId) partition.isReplaced = true
    }
  }

  /** Joins again when a topic has got more partitions or was created anew: the group does not notice by itself. */
  #onMetadata(metadata: ClusterMetadata): Effect.Effect<void> {
    this.#markReplaced(metadata)
    const partitions = describePartitions(metadata)
    if (partitions === this.#partitions || this.#joiningSince !== undefined) return Effect.void
    this.#partitions = partitions
    this.#fork(Effect.catch(this.join, (failure) => Effect.sync(() => this.lose(failure))))
    return Effect.logInfo(`Topics or their partitions have changed, joining again: ${partitions}`)
  }

  /** Lets handlers end or interrupts them, commits what is done, and gives the partitions up. */
  #revoke(cause: "rebalance" | "lost" | "close"): Effect.Effect<void> {
    const { intake, metrics, notifyRevoked, onState, settings, subscribe } = this.#options
    return this.#turn.withPermit(Effect.suspend(() => {
      const ending = this.#generation
      if (ending === undefined) return Effect.void
      this.#generation = undefined
      intake.revoke()
      const interruptRest = Effect.suspend(() => {
        intake.expel()
        return Effect.timeoutOption(notifyRevoked, settings.revokeTimeout * 0.3)
      })
      const letEnd = cause === "rebalance"
        ? Effect.andThen(Effect.timeoutOption(intake.quiet, settings.revokeTimeout * 0.7), interruptRest)
        : cause === "lost"
        ? interruptRest
        // Handlers have ended before their subscription is closed
        : Effect.void
      return letEnd.pipe(
        Effect.andThen(cause === "lost" ? Effect.void : ending.committer.commitNow),
        Effect.andThen(Effect.sync(() => intake.forget())),
        Effect.andThen(Scope.close(ending.scope, Exit.void)),
        Effect.andThen(cause === "rebalance" ? onState("connecting", undefined) : Effect.void),
        Effect.andThen(
          metrics
            ? Metric.update(
              Metric.withAttributes(KafkaMetrics.revocations, {
                "messaging.consumer.group.name": subscribe.group,
                "event_flow.cause": cause
              }),
              1
            )
            : Effect.void
        )
      )
    }))
  }
}

/**
 * The topics of a subscription that exist. Fails with the names of those that do
 * not, since joining a group does not report them; but once the group has consumed,
 * a topic that is deleted does not end the others.
 */
const existingTopics = (
  consumer: Consumer,
  { clock, memory, retryTopics, settings, subscribe: { topics } }: Options
): Effect.Effect<ReadonlyArray<string>, KafkaError.Failure> =>
  Effect.suspend(() => {
    const end = clock.currentTimeMillisUnsafe() + Fetcher.unknownTopicPatience
    const retries = new Set(retryTopics.map(({ topic }) => topic))
    return lookUp(consumer, topics).pipe(
      Effect.retry({
        schedule: Schedule.spaced(200),
        while: (failure) => failure.kind === "unknownTopic" && clock.currentTimeMillisUnsafe() < end
      }),
      Effect.as<ReadonlyArray<string>>([]),
      // It names another one than the broker does
      Effect.catchIf(({ kind }) => kind === "unknownTopic", (failure) =>
        Effect.flatMap(
          Effect.filter(topics, (topic) => isUnknown(consumer, topic)),
          (missing) => {
            if (missing.length === 0) return Effect.fail(failure)
            const names = missing.map((topic) => `"${topic}"${retries.has(topic) ? " (a retry topic)" : ""}`).join(", ")
            if (missing.length === topics.length || !memory.hasConsumed) {
              return Effect.fail({ ...failure, detail: `there is no topic ${names}` })
            }
            return Effect.as(
              Effect.logError(
                `There is no topic ${names} any more. The other topics are consumed; whether it is there again is ` +
                  `looked up every ${settings.metadataMaxAge} ms`
              ),
              missing
            )
          }
        )),
      Effect.map((missing) => {
        memory.missingTopics = missing
        return topics.filter((topic) => !missing.includes(topic))
      })
    )
  })

/** Fails when a topic that was missing is there again. */
const reappearance = (consumer: Consumer, { memory, settings }: Options): Effect.Effect<never, KafkaError.Failure> => {
  const { missingTopics } = memory
  if (missingTopics.length === 0) return Effect.never
  const isBack = (topic: string) =>
    Effect.match(lookUp(consumer, [topic]), { onSuccess: () => true, onFailure: () => false })
  const check = Effect.flatMap(Effect.filter(missingTopics, isBack), ([topic]) =>
    topic === undefined
      ? Effect.void
      : Effect.fail<KafkaError.Failure>({
        kind: "stale",
        detail: `there is a topic "${topic}" again`,
        cause: undefined
      }))
  return Effect.forever(Effect.andThen(Effect.sleep(settings.metadataMaxAge), check))
}

const lookUp = (consumer: Consumer, topics: ReadonlyArray<string>) =>
  promise(() => consumer.metadata({ topics: [...topics], forceUpdate: true, retries: 0 }))

const isUnknown = (consumer: Consumer, topic: string) =>
  Effect.match(lookUp(consumer, [topic]), {
    onSuccess: () => false,
    onFailure: ({ kind }) => kind === "unknownTopic"
  })

const close = (consumer: Consumer, timeout: number): Effect.Effect<void> =>
  promise(() => consumer.close(true)).pipe(
    Effect.timeoutOption(timeout),
    Effect.catch((failure) => Effect.logWarning("Could not leave the group in order", failure.detail)),
    Effect.andThen(Effect.sync(() => destroy(consumer.connections)))
  )

/** Closes connections whether or not the other side answers. */
const destroy = (pool: ConnectionPool): void => {
  for (const [, connection] of pool) connection.socket?.destroy()
  pool.close(() => undefined)
}

const describePartitions = (metadata: ClusterMetadata): string =>
  Array.from(metadata.topics, ([topic, { id, partitionsCount }]) => `${topic}=${partitionsCount} (${id})`).sort().join()

const describeAssignments = (assignments: ReadonlyArray<GroupAssignment>): string =>
  assignments.every(({ partitions }) => partitions.length === 0)
    ? "no partitions"
    : assignments.map(({ partitions, topic }) => `${topic}[${partitions.join(",")}]`).join(" ")
