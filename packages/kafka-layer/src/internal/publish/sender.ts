/** The requests of a publisher: a loop in a scope, which sends what may be sent. */
import * as Health from "@event-flow/core/Health"
import { Producer } from "@platformatic/kafka"
import type { Broker as BrokerAddress, Connection } from "@platformatic/kafka"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as FiberSet from "effect/FiberSet"
import * as Latch from "effect/Latch"
import * as Metric from "effect/Metric"
import * as Scheduler from "effect/Scheduler"
import type * as Scope from "effect/Scope"
import * as KafkaMetrics from "../../KafkaMetrics.ts"
import { Answers, watch } from "../answers.ts"
import { BrokerLog } from "../brokerLog.ts"
import { baseOptions, call, promise } from "../client.ts"
import * as KafkaError from "../errors.ts"
import { onceATurn } from "../onceATurn.ts"
import type { PublisherSettings } from "../settings.ts"
import { Accumulator } from "./accumulator.ts"
import type { Request } from "./accumulator.ts"
import type { PublishBuffer } from "./buffer.ts"
import { produceApi } from "./produceRequest.ts"
import type { ProduceApi, ProduceResponse } from "./produceRequest.ts"
import type { Topic } from "./topic.ts"

export interface Sender {
  readonly buffer: PublishBuffer
  /** Those that do not exist, and that the broker does not make when it is asked for them. */
  readonly missingTopics: (topics: ReadonlyArray<string>) => Effect.Effect<ReadonlyArray<string>, KafkaError.Failure>
}

/** Starts sending. Closing the scope waits, at most `drainTimeout`, until all messages are acknowledged. */
export const make: (
  settings: PublisherSettings,
  options: { readonly metrics: boolean }
) => Effect.Effect<Sender, never, Scope.Scope> = Effect.fnUntraced(function*(settings, { metrics }) {
  const clock = yield* Clock.Clock
  const latch = Latch.makeUnsafe(false)
  // Messages that are published in one turn share requests
  const wake = onceATurn(yield* Scheduler.Scheduler, () => latch.openUnsafe())
  const answers = new Answers()
  const accumulator = new Accumulator(settings, {
    now: () => clock.currentTimeMillisUnsafe(),
    wake,
    onStale: () => answers.doubtMetadata()
  })
  const client = yield* Effect.acquireRelease(
    Effect.sync(() => {
      const client = new Producer(baseOptions(settings))
      watch(client.connections, answers, settings)
      return client
    }),
    (client) => Effect.ignore(Effect.timeoutOption(promise(() => client.close()), settings.requestTimeout))
  )
  const run = yield* FiberSet.runtime(yield* FiberSet.make<void>())<never>()
  let brokers: ReadonlyMap<number, BrokerAddress> = new Map()
  let api: ProduceApi | undefined
  const log = new BrokerLog()

  const note = (node: number | undefined, failure: KafkaError.Failure | undefined): Effect.Effect<void> =>
    Effect.suspend(() => {
      if (failure === undefined) accumulator.failure = undefined
      else if (BrokerLog.isSilence(failure)) accumulator.failure = failure
      return log.note(node, failure)
    })

  const metadataOf = (topic: string) =>
    call<Awaited<ReturnType<Producer["metadata"]>>>((callback) =>
      client.metadata({
        topics: [topic],
        forceUpdate: true,
        autocreateTopics: settings.createTopics,
        retries: 0
      }, callback)
    )

  const isMissing = (topic: string): Effect.Effect<boolean, KafkaError.Failure> =>
    Effect.as(metadataOf(topic), false).pipe(
      Effect.catchIf(
        (failure) => failure.kind === "unknownTopic",
        () => Effect.succeed(!settings.createTopics)
      )
    )

  const missingTopics: Sender["missingTopics"] = (topics) => Effect.filter(topics, isMissing)

  const load = (topic: Topic): Effect.Effect<void> =>
    metadataOf(topic.name).pipe(
      Effect.matchEffect({
        onSuccess: (metadata) => {
          brokers = metadata.brokers
          const partitions = metadata.topics.get(topic.name)?.partitions ?? []
          if (partitions.length > 0) accumulator.loaded(topic, partitions.map((partition) => partition.leader))
          else accumulator.loadFailed(topic, unknownTopic(topic))
          return note(undefined, undefined)
        },
        onFailure: (failure) => {
          accumulator.loadFailed(topic, failure)
          return note(undefined, failure)
        }
      })
    )

  const connect = (address: BrokerAddress): Effect.Effect<Connection, KafkaError.Failure> =>
    call((callback) => client.connections.get(address, callback))

  const getApi: Effect.Effect<ProduceApi, KafkaError.Failure> = Effect.suspend(() => {
    if (api !== undefined) return Effect.succeed(api)
    return Effect.flatMap(promise(() => client.listApis()), (supported) => {
      api = produceApi(supported.find((candidate) => candidate.name === "Produce")?.maxVersion ?? 0)
      return api === undefined
        ? Effect.fail<KafkaError.Failure>({
          kind: "other",
          detail: "the broker is older than Kafka 2.8",
          cause: undefined
        })
        : Effect.succeed(api)
    })
  })

  const connectionTo = (node: number): Effect.Effect<readonly [Connection, ProduceApi], KafkaError.Failure> => {
    const address = brokers.get(node)
    return address === undefined
      ? Effect.fail<KafkaError.Failure>({ kind: "stale", detail: "the leader is unknown", cause: undefined })
      : Effect.zip(connect(address), getApi)
  }

  const send = (request: Request): Effect.Effect<void> =>
    Effect.matchEffect(connectionTo(request.node), {
      onSuccess: ([connection, api]) =>
        Effect.matchEffect(produceOn(connection, api, settings, request), {
          onSuccess: (response) => {
            settle(accumulator, request, response)
            return ended(request, undefined)
          },
          // The request may have arrived
          onFailure: (failure) => failed(request, failure, true)
        }),
      onFailure: (failure) => failed(request, failure, false)
    }).pipe(Effect.ensuring(Effect.sync(() => accumulator.requestEnded(request))))

  const failed = (request: Request, failure: KafkaError.Failure, isUncertain: boolean): Effect.Effect<void> => {
    for (const batch of request.batches) accumulator.failed(batch, failure, isUncertain)
    return ended(request, failure)
  }

  const ended = (request: Request, failure: KafkaError.Failure | undefined): Effect.Effect<void> => {
    const noted = note(request.node, failure)
    if (!metrics) return noted
    const counter = failure === undefined
      ? KafkaMetrics.produceRequests
      : Metric.withAttributes(KafkaMetrics.produceRequests, { "error.type": failure.kind })
    return Effect.andThen(noted, Metric.update(counter, 1))
  }

  const identify = call<{ readonly producerId: bigint; readonly producerEpoch: number }>((callback) =>
    client.initIdempotentProducer({}, callback)
  ).pipe(
    Effect.matchEffect({
      onSuccess: ({ producerEpoch, producerId }) => {
        accumulator.identity = { id: producerId, epoch: producerEpoch }
        return note(undefined, undefined)
      },
      onFailure: (failure) => Effect.andThen(note(undefined, failure), Effect.sleep(settings.retryDelay))
    })
  )

  let identifying = false
  const step = Effect.suspend(() => {
    latch.closeUnsafe()
    accumulator.expire()
    for (const topic of accumulator.topicsToLoad()) {
      topic.isLoading = true
      run(load(topic))
    }
    if (settings.idempotent && accumulator.identity === undefined && accumulator.hasWork && !identifying) {
      identifying = true
      run(Effect.ensuring(
        identify,
        Effect.sync(() => {
          identifying = false
          wake()
        })
      ))
    }
    for (const request of accumulator.collect()) run(send(request))
    const wait = accumulator.nextWake()
    return wait === undefined ? latch.await : Effect.asVoid(Effect.timeoutOption(latch.await, Math.max(1, wait)))
  })
  const health = yield* Health.report(
    { system: "kafka", component: "publisher", group: undefined, topics: [] },
    () => ({})
  )
  /** Whoever publishes nothing, or nothing any more, learns from metadata whether a broker answers. */
  const contact = promise(() => client.metadata({ topics: [], forceUpdate: true, retries: 0 })).pipe(
    Effect.match({
      onSuccess: () => health.set("connected"),
      onFailure: ({ detail }) => health.set("disconnected", detail)
    })
  )
  const watchHealth = Effect.suspend(() => {
    const trouble = accumulator.trouble()
    if (trouble === undefined) return health.current().state === "connected" ? Effect.void : contact
    health.set("disconnected", trouble)
    return Effect.void
  })
  yield* Effect.forkScoped(Effect.forever(Effect.andThen(watchHealth, Effect.sleep("1 second"))))
  yield* Effect.forever(step, { disableYield: true }).pipe(
    Effect.annotateLogs({ package: "@event-flow/kafka-layer", module: "KafkaBroker" }),
    Effect.forkScoped
  )
  yield* Effect.addFinalizer(() => drain(accumulator.buffer, settings.drainTimeout))
  return { buffer: accumulator.buffer, missingTopics }
})

// --- internal ---

const unknownTopic = ({ name }: Topic): KafkaError.Failure => ({
  kind: "unknownTopic",
  detail: `topic "${name}" has no partitions`,
  cause: undefined
})

const drain = (buffer: PublishBuffer, timeout: number): Effect.Effect<void> =>
  Effect.suspend(() => {
    buffer.close()
    return Effect.callback<void>((resume) => {
      if (buffer.isIdle) return resume(Effect.void)
      const remove = buffer.onIdle(() => {
        remove()
        resume(Effect.void)
      })
      return Effect.sync(remove)
    })
  }).pipe(
    Effect.timeoutOption(timeout),
    Effect.andThen(Effect.sync(() => buffer.abort()))
  )

const produceOn = (
  connection: Connection,
  api: ProduceApi,
  settings: PublisherSettings,
  request: Request
): Effect.Effect<ProduceResponse, KafkaError.Failure> =>
  Effect.callback((resume) => {
    api(
      connection,
      settings.acks,
      settings.requestTimeout,
      request.batches.map((batch) => ({
        topic: batch.partition.topic.name,
        partition: batch.partition.index,
        batch: batch.bytes
      })),
      (error, response) => {
        // A refusal of some partitions is an answer as well
        const answer = response ?? (error as { readonly response?: ProduceResponse } | null)?.response
        resume(answer !== undefined ? Effect.succeed(answer) : Effect.fail(KafkaError.describe(error)))
      }
    )
  })

const settle = (accumulator: Accumulator, request: Request, response: ProduceResponse): void => {
  const answers = new Map<string, ProduceResponse["responses"][number]["partitionResponses"][number]>()
  for (const topic of response.responses) {
    for (const answer of topic.partitionResponses) answers.set(`${topic.name}/${answer.index}`, answer)
  }
  for (const batch of request.batches) {
    const answer = answers.get(`${batch.partition.topic.name}/${batch.partition.index}`)
    if (answer === undefined) {
      accumulator.failed(batch, { kind: "timeout", detail: "the broker did not answer for it", cause: undefined }, true)
    } else if (answer.errorCode === 0) {
      accumulator.succeeded(batch)
    } else {
      const kind = KafkaError.kindOfCode(answer.errorCode)
      const recordError = answer.recordErrors[0]?.batchIndexErrorMessage
      const detail = answer.errorMessage ?? recordError ?? KafkaError.nameOfCode(answer.errorCode)
      accumulator.refused(batch, { kind, detail, cause: undefined })
    }
  }
}
