/** Spans and metrics of commands, handlers and publishing. */
import { assert, describe, it } from "@effect/vitest"
import { Mediator, Telemetry } from "@event-flow/core"
import { Context, Effect, Exit, Layer, Metric, Option, Tracer } from "effect"
import { A, Do, flow, News, RecordingBroker } from "./fixtures.ts"

describe("telemetry", () => {
  const makeTracer = () => {
    const spans: Array<Tracer.Span> = []
    const tracer = Tracer.make({
      span(options) {
        const span = new Tracer.NativeSpan(options)
        spans.push(span)
        return span
      }
    })
    return { spans, tracer }
  }

  it.effect("no span is made when no tracer is set", () =>
    Effect.gen(function*() {
      const broker = new RecordingBroker()
      const spans: Array<unknown> = []
      const seen = Effect.flatMap(Effect.option(Effect.currentSpan), (span) => Effect.sync(() => void spans.push(span)))
      const layer = flow({
        broker: broker.layer,
        command: (_, { collectAll }) =>
          Effect.as(Effect.andThen(seen, collectAll([new A({}), new News({ n: 1 })])), ""),
        on: { A: () => seen }
      })
      yield* Mediator.send(new Do()).pipe(Effect.provide(layer))
      assert.deepStrictEqual(spans, [Option.none(), Option.none()])
      assert.isUndefined(broker.batches[0]![0]!.attributes["traceparent"])
    }))

  const around: ReadonlyArray<readonly [string, <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.Effect<A, E, R>]> =
    [
      ["nothing", (effect) => effect],
      ["a parent, annotations and links", (effect) =>
        effect.pipe(
          Effect.annotateSpans({ tenant: "a", "event_flow.command": "theirs" }),
          Effect.linkSpans(Tracer.externalSpan({ traceId: "1".repeat(32), spanId: "2".repeat(16) }), { why: "test" }),
          (effect) => Effect.withSpan(effect, "parent") as typeof effect
        )],
      ["a parent that keeps itself to itself", (effect) =>
        Effect.withSpan(
          Effect.withSpan(effect, "hidden", {
            annotations: Context.make(Tracer.DisablePropagation, true)
          }),
          "parent"
        ) as typeof effect],
      ["no times", (effect) => Effect.withTracerTiming(effect, false)],
      ["a level that is not traced", (effect) => Effect.provideService(effect, Tracer.MinimumTraceLevel, "Fatal")]
    ]
  for (const [what, surround] of around) {
    it.effect(`the span of a command is that which Effect.withSpan makes: ${what}`, () =>
      Effect.gen(function*() {
        const { spans, tracer } = makeTracer()
        const theirs = Effect.withSpan(Effect.yieldNow, "Command/Do", {
          captureStackTrace: false,
          attributes: { "event_flow.command": "Do" }
        })
        const ours = Mediator.send(new Do()).pipe(
          Effect.provide(flow({ command: () => Effect.as(Effect.yieldNow, "") }))
        )
        yield* Effect.withTracer(Effect.andThen(surround(theirs), surround(ours)), tracer)
        const [one, other] = spans.filter(({ name }) => name === "Command/Do").map((span) => ({
          kind: span.kind,
          sampled: span.sampled,
          parent: Option.map(span.parent, (parent) => parent._tag === "Span" ? parent.name : parent.spanId),
          attributes: [...span.attributes],
          links: span.links,
          status: [span.status._tag, span.status.startTime, span.status._tag === "Ended" && span.status.endTime]
        }))
        assert.isDefined(one)
        assert.deepStrictEqual(other, one)
      }))
  }

  it.effect("with a tracer: a span a command and a publish, whose id is the message's traceparent", () =>
    Effect.gen(function*() {
      const broker = new RecordingBroker()
      const { spans, tracer } = makeTracer()
      const layer = flow({ broker: broker.layer, events: [new A({}), new News({ n: 1 }), new News({ n: 2 })] })
      yield* Mediator.send(new Do()).pipe(Effect.provide(layer), Effect.provideService(Tracer.Tracer, tracer))
      assert.deepStrictEqual(spans.map(({ kind, name }) => [name, kind]), [
        ["Command/Do", "internal"],
        ["publish news", "producer"]
      ])
      const publish = spans[1]!
      assert.strictEqual(Option.getOrThrow(publish.parent).spanId, spans[0]!.spanId)
      assert.deepStrictEqual(Object.fromEntries(publish.attributes), {
        "messaging.system": "recording",
        "messaging.destination.name": "news",
        "messaging.operation.name": "publish",
        "messaging.operation.type": "send",
        "messaging.batch.message_count": 2
      })
      for (const { attributes } of broker.batches[0]!) {
        assert.strictEqual(attributes["traceparent"], `00-${publish.traceId}-${publish.spanId}-01`)
      }
      assert.strictEqual(spans.every((span) => span.status._tag === "Ended"), true)
    }))

  it.effect("a caller's span is the traceparent when no tracer is set", () =>
    Effect.gen(function*() {
      const broker = new RecordingBroker()
      const span = Tracer.externalSpan({ traceId: "a".repeat(32), spanId: "b".repeat(16), sampled: false })
      yield* Mediator.send(new Do()).pipe(
        Effect.provide(flow({ broker: broker.layer, events: [new News({ n: 1 })] })),
        Effect.provideService(Tracer.ParentSpan, span)
      )
      assert.strictEqual(
        broker.batches[0]![0]!.attributes["traceparent"],
        `00-${span.traceId}-${span.spanId}-00`
      )
    }))

  it.effect("handler spans and metrics are choices of their own", () =>
    Effect.gen(function*() {
      const { spans, tracer } = makeTracer()
      const layer = flow({ events: [new A({})], command: (_, { collect }) => Effect.as(collect(new A({})), "") }).pipe(
        Layer.provide(Telemetry.layer({ handlerSpans: true, metrics: true }))
      )
      const exit = yield* Mediator.send(new Do()).pipe(
        Effect.andThen(
          Metric.value(Metric.withAttributes(Telemetry.commandDuration, { "event_flow.command": "Do" }))
        ),
        Effect.provide(layer),
        Effect.provideService(Tracer.Tracer, tracer),
        Effect.provideService(Metric.MetricRegistry, new Map()),
        Effect.exit
      )
      assert.isTrue(Exit.isSuccess(exit) && exit.value.count === 1)
      assert.deepStrictEqual(spans.map(({ name }) => name), ["Command/Do", "EventHandler/OnA", "EventHandler/OnA2"])
    }))

  it.effect("metrics of commands and of publishing, with what went wrong", () =>
    Effect.gen(function*() {
      const layer = flow({ events: [new News({ n: 1 }), new News({ n: 2 })] }).pipe(
        Layer.provide(Telemetry.layer({ metrics: true }))
      )
      const publishing = {
        "messaging.system": "none",
        "messaging.destination.name": "news",
        "messaging.operation.name": "publish",
        "messaging.operation.type": "send"
      }
      const [sent, duration, command] = yield* Effect.flip(Mediator.send(new Do())).pipe(
        Effect.andThen(Effect.all([
          Metric.value(Metric.withAttributes(Telemetry.sentMessages, publishing)),
          Metric.value(
            Metric.withAttributes(Telemetry.operationDuration, { ...publishing, "error.type": "BrokerNotFound" })
          ),
          Metric.value(Metric.withAttributes(Telemetry.commandDuration, {
            "event_flow.command": "Do",
            "error.type": "BrokerNotFound"
          }))
        ])),
        Effect.provide(layer),
        Effect.provideService(Metric.MetricRegistry, new Map())
      )
      assert.deepStrictEqual([sent.count, duration.count, command.count], [2, 1, 1])
    }))
})
