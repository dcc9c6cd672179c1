import { assert, describe, it } from "@effect/vitest"
import { Broker, ConsumerPolicy, EventConsumer, Inbox, MemoryBroker, Telemetry } from "@event-flow/core"
import { Effect, Exit, Layer, Metric, Option, Tracer } from "effect"
import { adjust, Boom, open, RecordingLogger } from "../fixtures.ts"
import { consumer, encode, OnOrdered, order, Ordered, publishOrders, settled, setup, Shipped } from "./support.ts"

describe("telemetry", () => {
  /** Keeps the spans it makes. */
  const recordingTracer = (): { readonly spans: Array<Tracer.NativeSpan>; readonly tracer: Tracer.Tracer } => {
    const spans: Array<Tracer.NativeSpan> = []
    return {
      spans,
      tracer: Tracer.make({
        span: (options) => {
          const span = new Tracer.NativeSpan(options)
          spans.push(span)
          return span
        }
      })
    }
  }

  const parentOf = (span: Tracer.NativeSpan | undefined): string | undefined =>
    span === undefined ? undefined : Option.getOrUndefined(span.parent)?.spanId

  it.effect("the span of processing is a child of the span of publishing, in the trace of the request", () =>
    Effect.gen(function*() {
      const { spans, tracer } = recordingTracer()
      const named = (name: string) => spans.filter((span) => span.name === name)
      yield* Effect.gen(function*() {
        const { context } = yield* open(consumer(({ n }, { collect }) => collect(new Shipped({ n }))))
        yield* Effect.withSpan(publishOrders(new Ordered({ n: 1 })), "request")
        yield* MemoryBroker.MemoryBroker.use(({ awaitIdle }) => awaitIdle)
        const [request] = named("request")
        const [publish] = named("publish orders")
        const [process] = named("process orders")
        const [followUp] = named("publish shipments")
        assert.strictEqual(parentOf(publish), request?.spanId)
        assert.strictEqual(parentOf(process), publish?.spanId)
        assert.strictEqual(parentOf(followUp), process?.spanId)
        assert.deepStrictEqual(
          [publish, process, followUp].map((span) => span?.traceId),
          Array.from({ length: 3 }, () => request?.traceId)
        )
        const stored = yield* MemoryBroker.MemoryBroker.use(({ messages }) => messages("orders"))
        const attributes = stored[0]!.attributes
        assert.strictEqual(attributes["traceparent"], `00-${publish!.traceId}-${publish!.spanId}-01`)
        assert.deepStrictEqual([publish!.kind, process!.kind], ["producer", "consumer"])
        assert.deepStrictEqual(Object.fromEntries(process!.attributes), {
          "messaging.system": "memory",
          "messaging.destination.name": "orders",
          "messaging.consumer.group.name": "group",
          "messaging.operation.name": "process",
          "messaging.operation.type": "process",
          "messaging.message.id": attributes["id"]
        })
        return context
      }).pipe(Effect.provide(MemoryBroker.layer()), Effect.withTracer(tracer))
    }))

  it.effect("without a traceparent, or with a malformed one, processing starts a trace", () =>
    Effect.gen(function*() {
      const { spans, tracer } = recordingTracer()
      const id = "4bf92f3577b34da6a3ce929d0e0e4736"
      const malformed = [
        "",
        "nonsense",
        `00-${id}-00f067aa0ba902b7`,
        `00-${id.toUpperCase()}-00f067aa0ba902b7-01`,
        `00-${"0".repeat(32)}-00f067aa0ba902b7-01`,
        `00-${id}-${"0".repeat(16)}-01`,
        `ff-${id}-00f067aa0ba902b7-01`,
        `00-${id}-00f067aa0ba902b7-01-more`,
        `01-${id}-00f067aa0ba902b7-01more`
      ]
      // The span in which the consumer is built is not the parent of all that it will ever do
      const { deliver } = yield* setup({}, () => Effect.void).pipe(Effect.withSpan("build"), Effect.withTracer(tracer))
      yield* deliver(order(0), ...malformed.map((traceparent, i) => order(i + 1, { attributes: { traceparent } })))
      yield* settled
      const processed = spans.filter(({ name }) => name === "process orders")
      assert.strictEqual(processed.length, malformed.length + 1)
      assert.deepStrictEqual(processed.map(parentOf), processed.map(() => undefined))
    }))

  it.effect("the span of a message that is dead-lettered says so, and the consumer goes on", () =>
    Effect.gen(function*() {
      const { spans, tracer } = recordingTracer()
      const { deliver, log } = yield* Effect.withTracer(
        setup(
          { policy: (failure) => failure._tag === "Undecodable" ? ConsumerPolicy.skip : ConsumerPolicy.deadLetter() },
          ({ n }) => n === 1 ? Effect.fail(new Boom({ id: "1" })) : n === 2 ? Effect.die("a bug") : Effect.void
        ),
        tracer
      )
      yield* deliver(order(1), order(2), order(3), order(4, { body: encode(null) }))
      yield* settled
      assert.deepStrictEqual(log, ["ack 1", "ack 2", "ack 3", "ack 4"])
      assert.deepStrictEqual(
        spans.filter(({ name }) => name === "process orders").map(({ attributes, status }) => [
          status._tag === "Ended" && Exit.isFailure(status.exit),
          attributes.get("error.type")
        ]),
        [[true, "EventHandlerError"], [true, "defect"], [false, undefined], [false, undefined]]
      )
      const processed = spans.filter(({ name }) => name === "process orders")
      assert.deepStrictEqual(
        spans.filter(({ name }) => name === "publish orders.dead-letter").map((span) => [span.kind, parentOf(span)]),
        processed.slice(0, 2).map(({ spanId }) => ["producer", spanId]),
        "the dead letter is published in its span"
      )
    }))

  it.effect("a publisher's decision not to sample is respected: no span is made, and messages pass it on", () =>
    Effect.gen(function*() {
      const { spans, tracer } = recordingTracer()
      const { broker, deliver } = yield* Effect.withTracer(
        setup({}, ({ n }, { collect }) => collect(new Shipped({ n }))),
        tracer
      )
      const trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7"
      yield* deliver(
        order(1, { attributes: { traceparent: `${trace}-00` } }),
        order(2, { attributes: { traceparent: `${trace}-01` } }),
        // Of a version to come
        order(3, { attributes: { traceparent: `01${trace.slice(2)}-03-more` } })
      )
      yield* settled
      assert.deepStrictEqual(
        spans.filter(({ name }) => name === "process orders").map(({ parent }) =>
          Option.getOrUndefined(parent)?.sampled
        ),
        [true, true]
      )
      assert.lengthOf(spans.filter(({ name }) => name === "publish shipments"), 2)
      const [first, ...others] = broker.batches.flat().map(({ attributes }) => attributes["traceparent"])
      assert.strictEqual(first, `${trace}-00`)
      for (const other of others) assert.match(other!, /^00-4bf92f3577b34da6a3ce929d0e0e4736-[0-9a-f]{16}-01$/)
    }))

  const measured = (telemetry: Layer.Layer<never>) =>
    Effect.gen(function*() {
      yield* open(
        EventConsumer.layer([OnOrdered], {
          group: "group",
          dedupe: true,
          policy: (failure) => failure._tag === "Undecodable" ? ConsumerPolicy.skip : ConsumerPolicy.deadLetter()
        }).pipe(
          Layer.provide([
            OnOrdered.toLayer(({ n }) => n === 3 ? Effect.fail(new Boom({ id: "3" })) : Effect.sleep(20)),
            Inbox.layerMemory(),
            new RecordingLogger().layer
          ]),
          Layer.provide(telemetry)
        )
      )
      const { publish } = yield* Broker.Broker
      yield* publish([order(1), order(1), order(2), order(3), order(4, { body: encode(null) })])
      yield* adjust("1 minute")
      const snapshots = yield* Metric.snapshot
      return snapshots.filter(({ id }) => id.startsWith("messaging.")).map((
        { attributes, id, state }
      ): Record<string, unknown> => ({
        id,
        ...attributes,
        count: (state as { readonly count: unknown }).count,
        ..."sum" in state ? { sum: state.sum } : {}
      }))
    }).pipe(Effect.provide(MemoryBroker.layer()), Effect.provideService(Metric.MetricRegistry, new Map()))

  it.effect("metrics count outcomes and measure processing", () =>
    Effect.gen(function*() {
      const common = {
        "messaging.system": "memory",
        "messaging.destination.name": "orders",
        "messaging.consumer.group.name": "group"
      }
      const consumed = (outcome: string, count: number) => ({
        id: "messaging.client.consumed.messages",
        unit: "{message}",
        ...common,
        "event_flow.outcome": outcome,
        count
      })
      const deadLetter = {
        "messaging.system": "memory",
        "messaging.destination.name": "orders.dead-letter",
        "messaging.operation.name": "publish",
        "messaging.operation.type": "send"
      }
      assert.sameDeepMembers(yield* measured(Telemetry.layer({ metrics: true })), [
        consumed("handled", 2),
        consumed("duplicate", 1),
        consumed("dead_lettered", 1),
        consumed("skipped", 1),
        {
          id: "messaging.client.sent.messages",
          unit: "{message}",
          ...deadLetter,
          count: 1
        },
        {
          id: "messaging.client.operation.duration",
          unit: "s",
          ...deadLetter,
          count: 1,
          sum: 0
        },
        {
          id: "messaging.process.duration",
          unit: "s",
          ...common,
          "messaging.operation.name": "process",
          "messaging.operation.type": "process",
          count: 4,
          sum: 0.04
        },
        {
          id: "messaging.process.duration",
          unit: "s",
          ...common,
          "messaging.operation.name": "process",
          "messaging.operation.type": "process",
          "error.type": "EventHandlerError",
          count: 1,
          sum: 0
        }
      ])
    }))

  it.effect("nothing is measured when metrics are off, as they are by default", () =>
    Effect.gen(function*() {
      assert.deepStrictEqual(yield* measured(Layer.empty), [])
      assert.deepStrictEqual(yield* measured(Telemetry.layer({ handlerSpans: true })), [])
      assert.deepStrictEqual(yield* Effect.withTracer(measured(Layer.empty), recordingTracer().tracer), [])
    }))
})
