/** The trace of a consumed message, its state and its baggage, on what its handlers publish. */
import { assert, describe, it } from "@effect/vitest"
import {
  Command,
  EventConsumer,
  EventFlow,
  EventHandler,
  Ids,
  Mediator,
  Message,
  MessageCodec,
  NotificationEvent
} from "@event-flow/core"
import { Effect, Layer, Schema, Tracer } from "effect"
import { FiberMessageContext } from "../../src/internal/dispatch/messageContext.ts"
import { open, RecordingBroker } from "../fixtures.ts"
import { FakeSubscriber } from "./fakeSubscriber.ts"
import { settled } from "./support.ts"

class Came extends NotificationEvent.Class<Came>()("Came", {}, { topic: "came" }) {}
class Went extends NotificationEvent.Class<Went>()("Went", { by: Schema.String }, { topic: "went" }) {}
class Go extends Command.Class<Go>()("Go", { emits: [Went] }) {}
const OnCame = EventHandler.make("OnCame", { on: Came, emits: [Went], sends: [Go] })
class Trips extends EventFlow.make("Trips", { commands: [Go], handlers: [OnCame] }) {}

const trace = "4bf92f3577b34da6a3ce929d0e0e4736"
const traceparent = `00-${trace}-00f067aa0ba902b7-01`

interface Said {
  readonly traceparent: string | undefined
  readonly tracestate: string | undefined
  readonly headers: Message.Message["headers"]
}

interface Published extends Said {
  readonly id: string | undefined
}

interface Options {
  readonly traceparent?: string
  readonly tracer?: Tracer.Tracer
  /** What the handler does with its collecting, and its command. */
  readonly around?: <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.Effect<A, E, R>
}

/** What is published while a message is handled that has a trace state and baggage. */
const published = (options: Options) =>
  Effect.map(
    publishedWithIds(options),
    (messages) => messages.map(({ headers, traceparent, tracestate }): Said => ({ traceparent, tracestate, headers }))
  )

const publishedWithIds = ({ around = (effect) => effect, tracer, ...received }: Options) =>
  Effect.gen(function*() {
    const subscriber = new FakeSubscriber()
    const broker = new RecordingBroker()
    const running = open(
      EventConsumer.layer(Trips, { group: "group" }).pipe(
        Layer.provide(Trips.layer()),
        Layer.provide([
          Go.toLayer((_, { collect }) => around(collect(new Went({ by: "command" })))),
          OnCame.toLayer((_, { collect }) =>
            around(
              Effect.andThen(collect(new Went({ by: "handler" })), Effect.orDie(Mediator.send(new Go())))
            )
          ),
          subscriber.layer,
          broker.layer
        ])
      )
    )
    yield* tracer === undefined ? running : Effect.withTracer(running, tracer)
    yield* subscriber.deliver(Message.make({
      topic: "came",
      attributes: { id: "1", type: "Came.v1", traceparent, tracestate: "vendor=1", ...received },
      headers: { baggage: "k=v", other: "kept by nobody" },
      body: new TextEncoder().encode("{}")
    }))
    yield* settled
    assert.deepStrictEqual(subscriber.log, ["ack 1"])
    const messages = broker.batches.flat()
    assert.strictEqual(messages.length, 2)
    return messages.map(({ attributes, headers }): Published => ({
      id: attributes["id"],
      traceparent: attributes["traceparent"],
      tracestate: attributes["tracestate"],
      headers
    }))
  })

const nativeTracer = Tracer.make({ span: (options) => new Tracer.NativeSpan(options) })

const twice = <A>(value: A): Array<A> => [value, value]

const headers = { baggage: "k=v" }

it.effect("the ids of what handlers publish are those of the program that the consumer was built in", () => {
  let made = 0
  return publishedWithIds({}).pipe(
    Effect.provideService(Ids.Ids, { next: () => `id-${++made}` }),
    Effect.map((messages) => assert.deepStrictEqual(messages.map(({ id }) => id), ["id-1", "id-2"]))
  )
})

describe("where a consumer has no tracer", () => {
  it.effect("the trace passes through as it came, with its state and baggage", () =>
    Effect.gen(function*() {
      assert.deepStrictEqual(yield* published({}), twice({ traceparent, tracestate: "vendor=1", headers }))
      const later = `01-${trace}-00f067aa0ba902b7-03-more`
      assert.deepStrictEqual(
        yield* published({ traceparent: later }),
        twice({ traceparent: later, tracestate: "vendor=1", headers }),
        "of a version to come"
      )
    }))

  it.effect("spans of handlers, which nobody sees, do not cut it", () =>
    Effect.gen(function*() {
      assert.deepStrictEqual(
        yield* published({ around: (effect) => Effect.withSpan(effect, "unseen") }),
        twice({ traceparent, tracestate: "vendor=1", headers })
      )
    }))

  it.effect("a malformed traceparent goes no further, nor does its state", () =>
    Effect.gen(function*() {
      for (const malformed of ["", "nonsense", "00-abc-1-01", `00-${"0".repeat(32)}-00f067aa0ba902b7-01`]) {
        assert.deepStrictEqual(
          yield* published({ traceparent: malformed }),
          twice({ traceparent: undefined, tracestate: undefined, headers })
        )
      }
    }))
})

describe("where a consumer has a tracer", () => {
  it.effect("spans continue the trace, with its state and baggage", () =>
    Effect.gen(function*() {
      const messages = yield* published({ tracer: nativeTracer })
      for (const message of messages) {
        assert.match(message.traceparent!, new RegExp(`^00-${trace}-[0-9a-f]{16}-01$`))
        assert.notStrictEqual(message.traceparent, traceparent)
        assert.deepStrictEqual([message.tracestate, message.headers], ["vendor=1", headers])
      }
    }))

  it.effect("another trace does not take the state over", () =>
    Effect.gen(function*() {
      const messages = yield* published({ tracer: nativeTracer, traceparent: "malformed" })
      for (const message of messages) {
        assert.match(message.traceparent!, /^00-[0-9a-f]{32}-[0-9a-f]{16}-01$/)
        assert.deepStrictEqual([message.tracestate, message.headers], [undefined, headers])
      }
    }))
})

describe("what a message says of its trace", () => {
  const encoded = Effect.flatMap(
    Effect.context<never>(),
    (context) => MessageCodec.cloudEvents().encode(new Came(), new FiberMessageContext(context))
  )
  const traceparentOf = (effect: typeof encoded) => Effect.map(effect, ({ attributes }) => attributes["traceparent"])
  const span = (traceId: string, spanId: string) => Effect.withParentSpan(Tracer.externalSpan({ traceId, spanId }))

  it.effect("is that of the nearest span that propagates", () =>
    Effect.gen(function*() {
      const outer = span(trace, "00f067aa0ba902b7")
      assert.strictEqual(yield* traceparentOf(encoded.pipe(outer)), traceparent)
      assert.strictEqual(
        yield* traceparentOf(
          encoded.pipe(Effect.withSpan("inner"), Effect.withTracerEnabled(false), outer)
        ),
        traceparent
      )
      assert.isUndefined(
        yield* traceparentOf(encoded.pipe(Effect.provideService(Tracer.DisablePropagation, true), outer))
      )
      assert.isUndefined(yield* traceparentOf(encoded.pipe(Effect.withSpan("only"), Effect.withTracerEnabled(false))))
      assert.isUndefined(yield* traceparentOf(encoded))
    }))

  it.effect("is left out where the ids of the span are none of W3C Trace Context", () =>
    Effect.gen(function*() {
      const ids: ReadonlyArray<readonly [string, string]> = [
        ["abc", "1"],
        ["4bf92f3577b34da6", "00f067aa0ba902b7"],
        [trace.toUpperCase(), "00f067aa0ba902b7"],
        ["0".repeat(32), "00f067aa0ba902b7"],
        [trace, "0".repeat(16)],
        [trace, "noop"]
      ]
      for (const [traceId, spanId] of ids) {
        assert.isUndefined(yield* traceparentOf(encoded.pipe(span(traceId, spanId))), `${traceId} ${spanId}`)
      }
    }))
})
