/**
 * @nestjs/cqrs with spans and histograms of OpenTelemetry around the bus. It has no middleware for commands, no request
 * context without request-scoped providers, and no message consumer.
 */
import { context, metrics, SpanKind, SpanStatusCode, trace } from "@opentelemetry/api"
import { AsyncLocalStorageContextManager } from "@opentelemetry/context-async-hooks"
import {
  AggregationTemporality,
  InMemoryMetricExporter,
  MeterProvider,
  PeriodicExportingMetricReader
} from "@opentelemetry/sdk-metrics"
import {
  BatchSpanProcessor,
  ParentBasedSampler,
  type Sampler,
  SamplingDecision,
  TracerProvider
} from "@opentelemetry/sdk-trace"
import { busOf, command } from "../subjects/nestjs.ts"
import { countMessage, encode, type Seat, tally } from "../workload.ts"
import { concurrentSends, type Configuration, type Workload } from "./configurations.ts"
import type { Run } from "./surroundings.ts"

const instrumented = (tracing: number) => {
  context.setGlobalContextManager(new AsyncLocalStorageContextManager().enable())
  let traces = 0
  const oneIn: Sampler = {
    shouldSample: () => ({
      decision: traces++ % tracing === 0 ? SamplingDecision.RECORD_AND_SAMPLED : SamplingDecision.NOT_RECORD
    })
  }
  trace.setGlobalTracerProvider(
    new TracerProvider({
      sampler: new ParentBasedSampler({ root: oneIn }),
      // In batches, to an exporter that drops them
      spanProcessors: [
        new BatchSpanProcessor({
          exporter: {
            export: (_, done) => done({ code: 0 }),
            forceFlush: async () => undefined,
            shutdown: async () => undefined
          },
          maxQueueSize: 100_000
        })
      ]
    })
  )
  return trace.getTracer("benchmarks")
}

type Around = <A>(work: () => Promise<A>) => Promise<A>

const plainly: Around = (work) => work()

const spanning = (
  tracer: ReturnType<typeof instrumented>,
  name: string,
  kind: SpanKind,
  attributes: Readonly<Record<string, string>>
): Around =>
(work) =>
  tracer.startActiveSpan(name, { kind, attributes }, async (span) => {
    try {
      return await work()
    } catch (error) {
      span.setStatus({ code: SpanStatusCode.ERROR })
      throw error
    } finally {
      span.end()
    }
  })

const timing = (name: string, attributes: Readonly<Record<string, string>>): Around => {
  const histogram = metrics.getMeter("benchmarks").createHistogram(name, { unit: "s" })
  return async (work) => {
    const start = performance.now()
    try {
      return await work()
    } finally {
      histogram.record((performance.now() - start) / 1000, attributes)
    }
  }
}

const publishing = {
  "messaging.system": "nothing",
  "messaging.destination.name": "meetings",
  "messaging.operation.name": "publish",
  "messaging.operation.type": "send"
}

export const setup = async (workload: Workload, configuration: Configuration): Promise<Run | undefined> => {
  if (workload === "consume" || workload === "nested") return undefined
  if (configuration.request || configuration.middleware || configuration.observer || configuration.exporter) {
    return undefined
  }
  const { tracing } = configuration
  const tracer = tracing === undefined ? undefined : instrumented(tracing)
  if (configuration.metrics) {
    metrics.setGlobalMeterProvider(
      new MeterProvider({
        readers: [
          new PeriodicExportingMetricReader({
            exporter: new InMemoryMetricExporter(AggregationTemporality.CUMULATIVE),
            exportIntervalMillis: 60_000
          })
        ]
      })
    )
  }
  const attributes = { "event_flow.command": "JoinMeeting" }
  const recorded = (span: Around, time: Around): Around =>
    tracer === undefined ? configuration.metrics ? time : plainly : span
  const around = recorded(
    tracer === undefined ? plainly : spanning(tracer, "Command/JoinMeeting", SpanKind.INTERNAL, attributes),
    timing("event_flow.command.duration", attributes)
  )
  const aroundPublish = recorded(
    tracer === undefined ? plainly : spanning(tracer, "publish meetings", SpanKind.PRODUCER, publishing),
    timing("messaging.client.operation.duration", publishing)
  )
  const served = tracer === undefined ? plainly : spanning(tracer, "POST /meetings", SpanKind.SERVER, {})
  const isPublishing = workload === "W6" || workload === "W6-read"
  const publish = async (event: Seat): Promise<void> => {
    if (workload === "W6-read") {
      const span = trace.getActiveSpan()?.spanContext()
      const envelope = {
        specversion: "1.0",
        id: crypto.randomUUID(),
        type: "SeatTaken.v1",
        source: "/event-flow",
        time: new Date().toISOString(),
        datacontenttype: "application/json",
        traceparent: span && `00-${span.traceId}-${span.spanId}-0${span.traceFlags}`
      }
      if (envelope.id === undefined) return
    }
    countMessage(encode(event))
  }
  const bus = await busOf(
    workload === "W6-read" ? "W6" : workload === "concurrent" ? "W1" : workload,
    isPublishing
      ? { eventPublisher: { publish: (event) => aroundPublish(() => publish(event as unknown as Seat)) } }
      : {}
  )
  if (workload === "concurrent") {
    return async (units) => {
      for (let unit = 0; unit < units; unit++) {
        const sent = command(unit)
        await served(() =>
          Promise.all(Array.from({ length: concurrentSends }, async () => {
            const answer = await around(() => bus.execute(command(unit)))
            tally.nested += answer
          }))
        )
        tally.answers += sent.seat
      }
    }
  }
  return async (units) => {
    for (let unit = 0; unit < units; unit++) {
      tally.answers += await served(() => around(() => bus.execute(command(unit))))
    }
  }
}
