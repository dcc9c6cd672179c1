/** The options of flows, of mediators and of consumers, in code and from the environment. */
import { assert, describe, it } from "@effect/vitest"
import {
  Command,
  EventConsumer,
  EventFlow,
  EventHandler,
  Mediator,
  MemoryBroker,
  NotificationEvent,
  type Settings
} from "@event-flow/core"
import { Config, ConfigProvider, Effect, Exit, Layer } from "effect"
import { A, Do, implementations, News, RecordingBroker, TestFlow } from "../fixtures.ts"

class Told extends NotificationEvent.Class<Told>()("Told", {}, { topic: "told" }) {}
const Hear = EventHandler.make("Hear", { on: Told })
const hear = Hear.toLayer(() => Effect.void)

/** What is wrong with a value, as a compiler would not have it. */
const wrong = (value: unknown) => value as never

const wholeNumbers = [NaN, 0, -1, 1.5, Infinity, "x", null]
const durations = [NaN, -1, "x", "1 parsec", { seconds: NaN }, null]

describe("wrong options of a flow fail its layer", () => {
  const build = (options: EventFlow.Options) =>
    Layer.build(TestFlow.layer(options).pipe(Layer.provide([implementations({}), new RecordingBroker().layer])))

  const cases: Record<string, ReadonlyArray<unknown>> = {
    concurrency: wholeNumbers,
    maxDepth: wholeNumbers.filter((value) => value !== 0),
    onFailure: ["ignore", null],
    drainTimeout: durations,
    source: ["", null]
  }
  for (const [field, values] of Object.entries(cases)) {
    for (const value of values) {
      it.effect(`${field}: ${JSON.stringify(value) ?? value} (${typeof value})`, () =>
        Effect.gen(function*() {
          const error = yield* Effect.flip(build({ [field]: wrong(value) }))
          assert.strictEqual(error._tag, "InvalidSetting")
          if (error._tag !== "InvalidSetting") return
          assert.strictEqual(error.field.split(".")[0], field)
          assert.include(error.message, `Correct the setting ${field}`)
        }))
    }
  }

  it.effect("right ones do not", () =>
    Effect.gen(function*() {
      const right: ReadonlyArray<EventFlow.Options> = [
        {},
        { concurrency: "unbounded", maxDepth: 0, onFailure: "log", drainTimeout: 0, source: "/app" },
        { concurrency: 1, drainTimeout: "2 minutes" },
        { drainTimeout: Infinity },
        {
          concurrency: undefined,
          drainTimeout: undefined,
          maxDepth: undefined,
          onFailure: undefined,
          source: undefined
        }
      ]
      for (const options of right) assert.isTrue(Exit.isSuccess(yield* Effect.exit(build(options))))
    }))

  it.effect("the error says of which flow", () =>
    Effect.gen(function*() {
      const error = yield* Effect.flip(build({ drainTimeout: -1 }))
      assert.include(error.message, "EventFlow \"TestFlow\"")
      assert.include((yield* Effect.flip(build({ concurrency: 0 }))).message, "not 0")
    }))
})

describe("wrong options of a mediator of one's own fail its layer", () => {
  class Own extends Mediator.Service<Own>()("test/OwnOptions", { middleware: [] }) {}
  for (const value of durations) {
    it.effect(`drainTimeout: ${JSON.stringify(value)}`, () =>
      Effect.gen(function*() {
        const error = yield* Effect.flip(Layer.build(Own.layer({ drainTimeout: wrong(value) })))
        assert.strictEqual(error._tag, "InvalidSetting")
        assert.include(error.message, "Correct the setting drainTimeout of mediator \"test/OwnOptions\"")
      }))
  }
})

describe("wrong options of a consumer fail its layer", () => {
  const options = (field: string, value: unknown) => ({ group: "group", [field]: wrong(value) })
  const build = (field: string, value: unknown) =>
    Layer.build(
      EventConsumer.layer([Hear], options(field, value)).pipe(Layer.provide([hear, MemoryBroker.layer()]))
    )

  const cases: Record<string, ReadonlyArray<unknown>> = {
    group: ["", null, 1],
    topics: [[], [""], "told", null],
    policy: ["retry", null],
    concurrency: wholeNumbers,
    maxInFlight: wholeNumbers,
    dedupe: ["x", null],
    ephemeral: ["x", null],
    drainTimeout: durations
  }
  for (const [field, values] of Object.entries(cases)) {
    for (const value of values) {
      it.effect(`${field}: ${JSON.stringify(value)} (${typeof value})`, () =>
        Effect.gen(function*() {
          const error = yield* Effect.flip(build(field, value))
          assert.strictEqual(error._tag, "InvalidSetting")
          assert.include((error as Settings.InvalidSetting).message, `Correct the setting ${field}`)
          assert.include((error as Settings.InvalidSetting).message, "EventConsumer")
        }))
    }
  }

  it.effect("and run, likewise", () =>
    Effect.gen(function*() {
      const error = yield* Effect.flip(
        EventConsumer.run([Hear], options("concurrency", 0)).pipe(Effect.provide([hear, MemoryBroker.layer()]))
      )
      assert.strictEqual(error._tag, "InvalidSetting")
    }))

  it.effect("handlers of which none is of a notification event are nothing to consume", () =>
    Effect.gen(function*() {
      const OnA = EventHandler.make("OnlyDomain", { on: A })
      const error = yield* Effect.flip(Layer.build(
        EventConsumer.layer([OnA], { group: "group" }).pipe(
          Layer.provide([OnA.toLayer(() => Effect.void), MemoryBroker.layer()])
        )
      ))
      assert.strictEqual(error._tag, "NothingToConsume")
    }))
})

describe("options from the environment", () => {
  const env = (variables: Record<string, string>) => ConfigProvider.layer(ConfigProvider.fromEnvRecord(variables))

  const published = (variables: Record<string, string>) =>
    Effect.gen(function*() {
      const broker = new RecordingBroker()
      const layer = TestFlow.layerConfig({
        source: Config.String("SOURCE"),
        maxDepth: Config.Int("MAX_DEPTH").pipe(Config.withDefault(undefined))
      }).pipe(
        Layer.provide([
          implementations({
            events: [new A({}), new News({ n: 1 })],
            on: { A: (_, { collect }) => collect(new News({ n: 2 })) }
          }),
          broker.layer
        ]),
        Layer.provide(env(variables))
      )
      const exit = yield* Effect.exit(Effect.provide(Mediator.send(new Do()), layer))
      return { exit, sources: broker.batches.flat().map(({ attributes }) => attributes["source"]) }
    })

  it.effect("of a flow", () =>
    Effect.gen(function*() {
      const { exit, sources } = yield* published({ SOURCE: "/from/env" })
      assert.deepStrictEqual(exit, Exit.succeed("done"))
      assert.deepStrictEqual(sources, ["/from/env", "/from/env"])
    }))

  it.effect("of a flow: used, missing and wrong", () =>
    Effect.gen(function*() {
      const errorOf = (variables: Record<string, string>) =>
        Effect.map(
          published(variables),
          ({ exit }) =>
            Exit.isFailure(exit) ? (Exit.findErrorOption(exit) as { value: { _tag: string } }).value._tag : "success"
        )
      assert.strictEqual(yield* errorOf({ SOURCE: "/a", MAX_DEPTH: "0" }), "CascadeTooDeep")
      assert.strictEqual(yield* errorOf({}), "ConfigError")
      assert.strictEqual(yield* errorOf({ SOURCE: "/a", MAX_DEPTH: "many" }), "ConfigError")
      assert.strictEqual(yield* errorOf({ SOURCE: "/a", MAX_DEPTH: "-1" }), "InvalidSetting")
    }))

  it.effect("of a consumer", () =>
    Effect.gen(function*() {
      class Tell extends Command.Class<Tell>()("Tell", { emits: [Told] }) {}
      class Telling extends EventFlow.make("Telling", { commands: [Tell], handlers: [Hear] }) {}
      let heard = 0
      const layer = EventConsumer.layerConfig(Telling, {
        group: Config.String("GROUP"),
        concurrency: Config.Int("CONCURRENCY")
      }).pipe(
        Layer.provideMerge(Telling.layer()),
        Layer.provide([
          Tell.toLayer((_, { collect }) => collect(new Told())),
          Hear.toLayer(() => Effect.sync(() => void heard++))
        ]),
        Layer.provideMerge(MemoryBroker.layer())
      )
      yield* Effect.gen(function*() {
        assert.strictEqual((yield* EventConsumer.EventConsumer).group, "from-env")
        yield* Mediator.send(new Tell())
        yield* MemoryBroker.MemoryBroker.use(({ awaitIdle }) => awaitIdle)
        assert.strictEqual(heard, 1)
      }).pipe(Effect.provide(layer.pipe(Layer.provide(env({ GROUP: "from-env", CONCURRENCY: "2" })))))
      const build = (variables: Record<string, string>) =>
        Effect.map(Effect.flip(Layer.build(Layer.provide(layer, env(variables)))), ({ _tag }) => _tag)
      assert.strictEqual(yield* build({ GROUP: "group" }), "ConfigError")
      assert.strictEqual(yield* build({ GROUP: "group", CONCURRENCY: "0" }), "InvalidSetting")
    }))
})
