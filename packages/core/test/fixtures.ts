/**
 * What the tests of the core share: four domain events, a notification event, a command that may emit them all, and a
 * flow in which a test says only what it is about.
 */
import {
  Broker,
  type Collect,
  Command,
  DomainEvent,
  EventEmitter,
  EventFlow,
  EventHandler,
  EventMap,
  EventProcessor,
  type Message,
  NotificationEvent
} from "@event-flow/core"
import type { Duration, LogLevel } from "effect"
import { Clock, Effect, Exit, Fiber, Layer, Logger, References, Schema, Scope } from "effect"
import { TestClock } from "effect/testing"
import { operationsOf } from "./fixtures/opBudget.ts"

export class Boom extends Schema.TaggedError<Boom>()("Boom", { id: Schema.String }) {
  override get message(): string {
    return `boom ${this.id}`
  }
}

export class A extends DomainEvent.Class<A>()("A", { id: Schema.optionalKey(Schema.String) }) {}
export class B extends DomainEvent.Class<B>()("B", { id: Schema.optionalKey(Schema.String) }) {}
export class C extends DomainEvent.Class<C>()("C", { id: Schema.optionalKey(Schema.String) }) {}
export class D extends DomainEvent.Class<D>()("D", { id: Schema.optionalKey(Schema.String) }) {}

export class News extends NotificationEvent.Class<News>()("News", { n: Schema.Int }, {
  topic: "news",
  key: (event) => String(event.n)
}) {}

/** Sequential, in parallel, and without a bound. */
export const parallel = [1, 3, "unbounded"] as const

const emits = [A, B, C, D, News] as const
export type AnyEvent = InstanceType<typeof emits[number]>

/** Does what a test says, and gives rise to any of the events. */
export class Do extends Command.Class<Do>()("Do", { success: Schema.String, error: Boom, emits }) {}

// Two on A, to see the handlers of one event beside each other
export const OnA = EventHandler.make("OnA", { on: A, emits, error: Boom })
export const OnA2 = EventHandler.make("OnA2", { on: A, emits, error: Boom })
export const OnB = EventHandler.make("OnB", { on: B, emits, error: Boom })
export const OnC = EventHandler.make("OnC", { on: C, emits, error: Boom })
export const OnD = EventHandler.make("OnD", { on: D, emits, error: Boom })
export const handlers = [OnA, OnA2, OnB, OnC, OnD] as const

export type Handle<Event> = (event: Event, context: Collect.Collect<AnyEvent>) => Effect.Effect<void, Boom>

export interface FlowOptions extends EventProcessor.Options {
  /** The events that the command collects. */
  readonly events?: ReadonlyArray<AnyEvent> | undefined
  /** What the command does; default: collects `events` and answers "done". */
  readonly command?: ((command: Do, context: Collect.Collect<AnyEvent>) => Effect.Effect<string, Boom>) | undefined
  /** What the handlers do; default: nothing. */
  readonly on?: {
    readonly A?: Handle<A>
    readonly A2?: Handle<A>
    readonly B?: Handle<B>
    readonly C?: Handle<C>
    readonly D?: Handle<D>
  } | undefined
  /** Default: `Broker.layerNone`. */
  readonly broker?: Layer.Layer<Broker.Broker>
  /** Sets a `MessageCodec`; default: none. */
  readonly codec?: Layer.Layer<never>
  readonly drainTimeout?: Duration.Input
}

const ignore = () => Effect.void

export class TestFlow extends EventFlow.make("TestFlow", { commands: [Do], handlers }) {}

/** What the members of `TestFlow` do. */
export const implementations = ({ command, events, on }: Pick<FlowOptions, "command" | "events" | "on">) =>
  Layer.mergeAll(
    Do.toLayer(command ?? ((_, { collectAll }) => Effect.as(collectAll(events ?? []), "done"))),
    OnA.toLayer(on?.A ?? ignore),
    OnA2.toLayer(on?.A2 ?? ignore),
    OnB.toLayer(on?.B ?? ignore),
    OnC.toLayer(on?.C ?? ignore),
    OnD.toLayer(on?.D ?? ignore)
  )

/** A flow of all handlers and the command `Do`. */
export const flow = ({ broker, codec, command, events, on, ...options }: FlowOptions) =>
  TestFlow.layer(options).pipe(
    Layer.provide(implementations({ command, events, on })),
    Layer.provide([broker ?? Broker.layerNone, codec ?? Layer.empty])
  )

/** A flow of one command and nothing else. */
export const alone = <C extends Command.AnyClass, E, R>(
  command: C,
  implementation: Layer.Layer<Command.CommandImplementation<C["tag"]>, E, R>
) => EventFlow.make("Alone", { commands: [command] }).layer().pipe(Layer.provide(implementation))

/** Decorators of the parts of a flow. */
export interface Decorators {
  readonly processor?: Layer.Layer<EventProcessor.EventProcessor, never, EventProcessor.EventProcessor>
  readonly emitter?: Layer.Layer<EventEmitter.EventEmitter, never, EventEmitter.EventEmitter>
}

/** The layer of a flow whose parts are decorated. */
export const partsOf = <Name extends string, C extends Command.AnyClass, H extends EventHandler.Any>(
  definition: EventFlow.EventFlow<Name, C, H>,
  { emitter, processor }: Decorators,
  options?: EventProcessor.Options
) => {
  const ourEmitter = Layer.fresh(EventEmitter.layer)
  const ourProcessor = EventProcessor.layer(options).pipe(
    Layer.provide(emitter === undefined ? ourEmitter : Layer.provide(emitter, ourEmitter))
  )
  return definition.layerNoDeps().pipe(
    Layer.provide(processor === undefined ? ourProcessor : Layer.provide(processor, ourProcessor)),
    Layer.provide(EventMap.layer(definition.handlers))
  )
}

/** Notes what happens, in order; `at` adds the virtual time in milliseconds. */
export class Journal {
  readonly entries: Array<string> = []

  readonly note = (entry: string): Effect.Effect<void> =>
    Effect.sync(() => {
      this.entries.push(entry)
    })

  readonly at = (entry: string): Effect.Effect<void> =>
    Effect.flatMap(Clock.currentTimeMillis, (now) => this.note(`${entry}@${now}`))

  /** Something that takes `millis`, with its start, its end and its interruption. */
  readonly work = (name: string, millis: number): Effect.Effect<void> =>
    this.at(`${name} starts`).pipe(
      Effect.andThen(Effect.sleep(millis)),
      Effect.andThen(this.at(`${name} ends`)),
      Effect.onInterrupt(() => this.at(`${name} interrupted`))
    )
}

/** A broker that keeps each batch. */
export class RecordingBroker {
  readonly batches: Array<ReadonlyArray<Message.Message>> = []
  readonly layer: Layer.Layer<Broker.Broker>

  constructor(
    publish: (messages: ReadonlyArray<Message.Message>) => ReturnType<Broker.Broker["Service"]["publish"]> = ignore
  ) {
    this.layer = Layer.succeed(Broker.Broker)({
      name: "recording",
      publish: (messages) =>
        Effect.suspend(() => {
          this.batches.push(messages)
          return publish(messages)
        })
    })
  }

  /** The bodies, a list for each publish. */
  get bodies(): ReadonlyArray<ReadonlyArray<unknown>> {
    return this.batches.map((batch) => batch.map(bodyOf))
  }
}

export const bodyOf = (message: Message.Message): unknown => JSON.parse(new TextDecoder().decode(message.body!))

/** Keeps what is logged as `LEVEL message`. */
export class RecordingLogger {
  readonly entries: Array<string> = []
  readonly annotations: Array<unknown> = []
  readonly layer: Layer.Layer<never>

  constructor(minimumLevel: LogLevel.LogLevel = "Info") {
    const logger = Logger.make(({ fiber, logLevel, message }) => {
      this.entries.push(`${logLevel} ${Array.isArray(message) ? message[0] : message}`)
      this.annotations.push({ ...fiber.getRef(References.CurrentLogAnnotations) })
    })
    this.layer = Layer.mergeAll(Logger.layer([logger]), Layer.succeed(References.MinimumLogLevel, minimumLevel))
  }
}

/** Lets all fibers of a test run until they wait: until they have run nothing for some turns of the event loop. */
export const settle: Effect.Effect<void> = Effect.withFiber((fiber) => {
  const { scheduler } = fiber.cache
  return Effect.callback((resume) => {
    let before = -1
    let quiet = 0
    const look = () => {
      const now = operationsOf(scheduler)
      quiet = now === before ? quiet + 1 : 0
      before = now
      if (quiet === 3) resume(Effect.void)
      else immediate = setImmediate(look)
    }
    let immediate = setImmediate(look)
    return Effect.sync(() => clearImmediate(immediate))
  })
})

/** Has virtual time pass, from where all fibers wait. */
export const adjust = (duration: Duration.Input): Effect.Effect<void> =>
  Effect.andThen(settle, TestClock.adjust(duration))

/** Runs an effect while virtual time passes, until it has ended. */
export const passTime = <A, E, R>(
  effect: Effect.Effect<A, E, R>,
  duration: Duration.Input = "1 hour"
): Effect.Effect<Exit.Exit<A, E>, never, R> =>
  Effect.gen(function*() {
    const fiber = yield* Effect.forkChild(effect, { startImmediately: true })
    yield* adjust(duration)
    return yield* Fiber.await(fiber)
  })

/** Builds a layer in a scope of its own, to close while the test goes on. */
export const open = <A, E, R>(layer: Layer.Layer<A, E, R>) =>
  Effect.gen(function*() {
    const scope = yield* Scope.make()
    const context = yield* Layer.buildWithScope(layer, scope)
    return { context, close: Scope.close(scope, Exit.void) }
  })
