/**
 * The processor against a model of it: random trees of events and follow-ups, with failures, defects and delays in
 * virtual time, under every policy, sequential and parallel, to the end or interrupted.
 */
import { assert, describe, it } from "@effect/vitest"
import {
  Broker,
  type Collect,
  Command,
  DomainEvent,
  EventFlow,
  type EventFlowError,
  EventHandler,
  Mediator,
  type Message,
  NotificationEvent
} from "@event-flow/core"
import { Cause, Clock, Effect, Exit, Fiber, Layer, Schema } from "effect"
import { adjust, Boom, open } from "../fixtures.ts"
import {
  cleanUp,
  type Config,
  forever,
  grow,
  model,
  type Node,
  type Outline,
  publishing,
  Shape,
  type Work
} from "./model.ts"

// --- the processor ---

class Domain extends DomainEvent.Class<Domain>()("Domain", { id: Schema.Int }) {}
class Notification extends NotificationEvent.Class<Notification>()("Notification", {
  id: Schema.Int,
  key: Schema.UndefinedOr(Schema.String)
}, {
  topic: "notifications",
  key: ({ key }) => key
}) {}

const toEvent = ({ id, key, kind }: Node) => kind === "domain" ? new Domain({ id }) : new Notification({ id, key })

const idOf = ({ body }: Message.Message): number => JSON.parse(new TextDecoder().decode(body!)).id

const emits = [Domain, Notification] as const
const First = EventHandler.make("First", { on: Domain, emits, error: Boom })
const Second = EventHandler.make("Second", { on: Domain, emits, error: Boom })
class Grow extends Command.Class<Grow>()("Grow", { emits }) {}
class Growing extends EventFlow.make("Growing", { commands: [Grow], handlers: [First, Second] }) {}

interface Run extends Outline {
  readonly exit: Exit.Exit<void, EventFlowError.EventFlowError>
  readonly mostAtOnce: number
}

const run = Effect.fnUntraced(function*(
  roots: ReadonlyArray<Node>,
  nodes: ReadonlyArray<Node>,
  config: Config,
  interruptAt?: number
): Effect.fn.Return<Run, never> {
  const trace: Array<string> = []
  let running = 0
  let mostAtOnce = 0
  const note = (entry: string) =>
    Effect.map(Clock.currentTimeMillis, (now) => {
      trace.push(`${entry}@${now}`)
    })
  const perform = (work: Work): Effect.Effect<void, Boom> =>
    Effect.acquireUseRelease(
      Effect.andThen(
        note(`${work.name} starts`),
        Effect.sync(() => {
          mostAtOnce = Math.max(mostAtOnce, ++running)
        })
      ),
      () =>
        Effect.sleep(work.millis).pipe(
          Effect.onInterrupt(() => Effect.andThen(note(`${work.name} interrupted`), Effect.sleep(cleanUp))),
          Effect.andThen(note(`${work.name} ${work.outcome}`)),
          Effect.andThen(
            work.outcome === "fails"
              ? Effect.fail(new Boom({ id: work.name }))
              : work.outcome === "dies"
              ? Effect.die(work.name)
              : Effect.void
          )
        ),
      () =>
        Effect.sync(() => {
          running--
        })
    )
  const handle = (i: 0 | 1) =>
    Effect.fnUntraced(function*({ id }: Domain, { collectAll }: Collect.Collect<Domain | Notification>) {
      const node = nodes[id]!
      // Collected first: what fails must not emit it
      yield* collectAll(node.followUps[i].map(toEvent))
      yield* perform(node.work[i])
    })
  const broker = Layer.succeed(Broker.Broker)({
    name: "model",
    publish: (messages) => {
      const work = publishing(messages.map((message) => nodes[idOf(message)]!))
      return Effect.mapError(
        perform(work),
        ({ id }) =>
          new Broker.PublishError({ topic: id, messageType: "", reason: new Broker.Rejected({ detail: "no" }) })
      )
    }
  })
  const concurrency = config.concurrency === Infinity ? "unbounded" : config.concurrency
  const layer = Growing.layer({ ...config, concurrency }).pipe(
    Layer.provide([
      Grow.toLayer((_, { collectAll }) => collectAll(roots.map(toEvent))),
      First.toLayer(handle(0)),
      Second.toLayer(handle(1)),
      broker
    ])
  )
  const { context } = yield* Effect.orDie(open(layer))
  const start = yield* Clock.currentTimeMillis
  let endsAt = -1
  const fiber = yield* Mediator.send(new Grow()).pipe(
    Effect.onExit(() =>
      Effect.map(Clock.currentTimeMillis, (now) => {
        endsAt = now - start
        assert.strictEqual(running, 0, "something runs on after the end")
      })
    ),
    Effect.provideContext(context),
    Effect.forkChild({ startImmediately: true })
  )
  if (interruptAt !== undefined) {
    yield* adjust(interruptAt)
    fiber.interruptUnsafe()
  }
  yield* adjust(forever)
  const exit = yield* Fiber.await(fiber)
  const reasons = Exit.isFailure(exit) ? exit.cause.reasons : []
  return {
    exit,
    mostAtOnce,
    endsAt,
    trace: trace.map((entry) => {
      const [what, when] = entry.split("@")
      return `${what}@${Number(when) - start}`
    }),
    failures: reasons.filter(Cause.isFailReason).flatMap(({ error }) =>
      error._tag === "EventsFailed" ? error.failures.map(failureName) : [failureName(error)]
    ),
    defects: reasons.filter(Cause.isDieReason).map(({ defect }) => String(defect))
  }
})

/** Everything that fails says its name; the handler's name must agree with it. */
const failureName = (failure: EventFlowError.EventFailure): string => {
  if (failure._tag === "PublishError") return failure.topic
  assert.strictEqual(failure._tag, "EventHandlerError")
  if (failure._tag !== "EventHandlerError") return "?"
  const { id } = failure.cause as Boom
  assert.strictEqual(failure.event, "Domain")
  assert.strictEqual(failure.handler, id.endsWith("a") ? "First" : "Second")
  return id
}

/** The order of what is interrupted is open, and of what starts at the same time: the run loop may yield before it. */
const settled = (trace: ReadonlyArray<string>): ReadonlyArray<string> => {
  const isInterruption = (entry: string) => entry.includes("interrupted")
  const first = trace.findIndex(isInterruption)
  if (first !== -1) {
    assert.isTrue(trace.slice(first).every(isInterruption), `something happens after an interruption: ${trace.join()}`)
  }
  // "starts@4" and "interrupted@4" may be many; of what ends there is one at a time
  const whatAndWhen = (entry: string) => entry.split(" ")[1]
  const groups: Array<Array<string>> = []
  for (const entry of trace) {
    const last = groups.at(-1)
    if (last !== undefined && whatAndWhen(entry) === whatAndWhen(last[0]!)) last.push(entry)
    else groups.push([entry])
  }
  return groups.flatMap((group) => group.sort())
}

// --- the properties ---

const policies = ["failFast", "accumulate", "log"] as const
const options = { arbitrary: { runs: 150, size: 12 }, timeout: 60_000 }

const isDefined = (outline: Outline, policy: Config["onFailure"]): Pick<Outline, "failures" | "defects"> => ({
  failures: policy === "log" ? [] : outline.failures,
  defects: outline.defects
})

describe("the processor does what its model does", () => {
  for (const concurrency of [1, 2, 3, Infinity]) {
    for (const onFailure of policies) {
      const config = { concurrency, onFailure }
      it.effect.prop(
        `to its end: concurrency ${concurrency}, ${onFailure}`,
        [Shape],
        ([shape]) =>
          Effect.gen(function*() {
            const { nodes, roots } = grow(shape, false)
            const expected = model(roots, config)
            const actual = yield* run(roots, nodes, config)
            assert.deepStrictEqual(settled(actual.trace), settled(expected.trace))
            assert.strictEqual(actual.endsAt, expected.endsAt)
            const { defects, failures } = isDefined(expected, onFailure)
            assert.deepStrictEqual(actual.failures, failures)
            assert.deepStrictEqual(actual.defects, defects)
            assert.strictEqual(Exit.isSuccess(actual.exit), failures.length + defects.length === 0)
          }),
        options
      )
    }

    it.effect.prop(
      `interrupted: concurrency ${concurrency}`,
      [Shape, Schema.Finite.check(Schema.isBetween({ minimum: 0, maximum: 1 }))],
      ([shape, part]) =>
        Effect.gen(function*() {
          const { nodes, roots } = grow(shape, false)
          const config = { concurrency, onFailure: "accumulate" } as const
          const whole = model(roots, config).endsAt
          const at = 2 * Math.floor(part * (whole - 1) / 2) + 1
          const expected = model(roots, config, at)
          const actual = yield* run(roots, nodes, config, at)
          assert.deepStrictEqual(settled(actual.trace), settled(expected.trace))
          assert.strictEqual(actual.endsAt, expected.endsAt)
          assert.isTrue(Exit.hasInterrupts(actual.exit))
          assert.deepStrictEqual(actual.failures, [])
        }),
      options
    )

    // Without time the order in parallel is open; what must hold is not
    it.effect.prop(`without time: concurrency ${concurrency}`, [Shape], ([shape]) =>
      Effect.gen(function*() {
        const { nodes, roots } = grow(shape, true)
        const config = { concurrency, onFailure: "accumulate" } as const
        const expected = model(roots, config)
        const actual = yield* run(roots, nodes, config)
        assert.deepStrictEqual([...actual.trace].sort(), [...expected.trace].sort())
        assert.isAtMost(actual.mostAtOnce, concurrency)
        assert.deepStrictEqual([...actual.failures].sort(), [...expected.failures].sort())
        assert.deepStrictEqual([...actual.defects].sort(), [...expected.defects].sort())
      }), options)
  }
})

describe("the model itself", () => {
  // A model that never fails, batches or overlaps would prove nothing
  it.effect.prop(
    "covers what it is for",
    [Schema.Array(Shape).check(Schema.isMinLength(60))],
    ([shapes]) =>
      Effect.sync(() => {
        const outlines = shapes.map((shape) =>
          model(grow(shape, false).roots, { concurrency: 3, onFailure: "failFast" })
        )
        const has = (test: (outline: Outline) => boolean) => outlines.some(test)
        assert.isTrue(has(({ failures }) => failures.length > 0))
        assert.isTrue(has(({ defects }) => defects.length > 0))
        assert.isTrue(has(({ trace }) => trace.some((entry) => entry.includes("+"))))
        assert.isTrue(has(({ trace }) => trace.some((entry) => entry.includes("interrupted"))))
        assert.isTrue(has(({ trace }) => trace.length > 15))
      }),
    { arbitrary: { runs: 1, size: 60, seed: 1 } }
  )
})
