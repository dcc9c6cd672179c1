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
  NotificationEvent
} from "@event-flow/core"
import { Cause, Clock, Effect, Exit, Fiber, Layer, Schema } from "effect"
import { adjust, Boom, open } from "./fixtures.ts"

// --- random trees ---

/** What handling or publishing something comes to. */
const Outcome = Schema.Literals(["ok", "ok", "ok", "ok", "fails", "dies"])

/**
 * A tree as a flat list, which shrinks well: `parent` picks one of the domain events before it (or none), `child of`
 * which of that event's two handlers collects it.
 */
const Shape = Schema.Array(Schema.Struct({
  kind: Schema.Literals(["domain", "domain", "notification"]),
  parent: Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 40 })),
  ofSecond: Schema.Boolean,
  first: Outcome,
  second: Outcome,
  rank: Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 1000 }))
})).check(Schema.isMinLength(1), Schema.isMaxLength(12))
type Shape = typeof Shape.Type

interface Work {
  readonly name: string
  readonly millis: number
  readonly outcome: "ok" | "fails" | "dies"
}

interface Node {
  readonly id: number
  readonly kind: "domain" | "notification"
  /** One for each handler, or the publish. */
  readonly work: readonly [Work, Work]
  readonly followUps: readonly [Array<Node>, Array<Node>]
}

/**
 * Durations are distinct powers of two: the times at which things end are sums of different ones, so no two things end
 * at the same time and the model need not guess which comes first. All are even: an odd time is nobody's end.
 */
const grow = (shape: Shape, isInstant: boolean): { readonly roots: Array<Node>; readonly nodes: Array<Node> } => {
  const ranks = shape.map((_, i) => i).sort((a, b) => shape[a]!.rank - shape[b]!.rank || a - b)
  const roots: Array<Node> = []
  const nodes: Array<Node> = []
  shape.forEach((spec, id) => {
    const millis = (handler: number) => isInstant ? 0 : 2 ** (1 + 2 * ranks.indexOf(id) + handler)
    const node: Node = {
      id,
      kind: spec.kind,
      work: [
        { name: `${id}a`, millis: millis(0), outcome: spec.first },
        { name: `${id}b`, millis: millis(1), outcome: spec.second }
      ],
      followUps: [[], []]
    }
    const parents = nodes.filter((node) => node.kind === "domain")
    const parent = parents[spec.parent % (parents.length + 1)]
    if (parent === undefined) roots.push(node)
    else parent.followUps[spec.ofSecond ? 1 : 0].push(node)
    nodes.push(node)
  })
  return { roots, nodes }
}

const forever = 2 ** 40

// --- the model ---

interface Config {
  readonly concurrency: number
  readonly onFailure: "failFast" | "accumulate" | "log"
}

interface Outline {
  /** What happened, with its time. */
  readonly trace: ReadonlyArray<string>
  /** Names of what failed and of what died, in the order in which they count. */
  readonly failures: ReadonlyArray<string>
  readonly defects: ReadonlyArray<string>
  readonly endsAt: number
}

/** How long the finalizer of something interrupted takes. */
const cleanUp = 7

type Item = readonly [Node, ...Array<Node>]

/** Adjacent notifications together, domain events apart (F12). */
const items = (nodes: ReadonlyArray<Node>): Array<Item> => {
  const out: Array<[Node, ...Array<Node>]> = []
  for (const node of nodes) {
    const last = out.at(-1)
    if (node.kind === "notification" && last !== undefined && last[0].kind === "notification") last.push(node)
    else out.push([node])
  }
  return out
}

const publishing = (batch: ReadonlyArray<Node>): Work => ({
  name: batch.map(({ id }) => id).join("+"),
  millis: batch[0]!.work[0].millis,
  outcome: batch.some(({ work }) => work[0].outcome === "dies")
    ? "dies"
    : batch.some(({ work }) => work[0].outcome === "fails")
    ? "fails"
    : "ok"
})

/** The stages of an item: its handlers in order, or its publish. */
const stages = (item: Item): ReadonlyArray<{ readonly work: Work; readonly followUps: ReadonlyArray<Node> }> =>
  item[0].kind === "notification"
    ? [{ work: publishing(item), followUps: [] }]
    : item[0].work.map((work, i) => ({ work, followUps: item[0].followUps[i]! }))

/**
 * A queue and `concurrency` places. Sequential processing differs in one point: the next level is put together from
 * all follow-ups of the last one, so notifications of different parents are adjacent.
 */
const model = (roots: ReadonlyArray<Node>, config: Config, interruptAt = Infinity): Outline => {
  const trace: Array<string> = []
  const failures: Array<string> = []
  const defects: Array<string> = []
  const queue = items(roots)
  let level: Array<Node> = []
  let now = 0
  interface Place {
    item: Item
    stage: number
    endsAt: number
    readonly followUps: Array<Node>
  }
  const places: Array<Place> = []
  // Publishing takes one place at a time; what comes meanwhile waits without one, in order
  const waiting: Array<Item> = []
  const begin = (place: Place): void => {
    const { work } = stages(place.item)[place.stage]!
    trace.push(`${work.name} starts@${now}`)
    place.endsAt = now + work.millis
  }
  const interruptRest = (): Outline => {
    for (const place of places) trace.push(`${stages(place.item)[place.stage]!.work.name} interrupted@${now}`)
    return { trace, failures, defects, endsAt: places.length === 0 ? now : now + cleanUp }
  }
  const conclude = (): Outline => ({ trace, failures, defects, endsAt: now })
  for (;;) {
    if (config.concurrency === 1 && queue.length === 0 && places.length === 0) {
      queue.push(...items(level))
      level = []
    }
    while (places.length < config.concurrency && queue.length > 0) {
      const item = queue.shift()!
      if (item[0].kind === "notification" && places.some((place) => place.item[0].kind === "notification")) {
        waiting.push(item)
        continue
      }
      const place: Place = { item, stage: 0, endsAt: 0, followUps: [] }
      places.push(place)
      begin(place)
    }
    if (places.length === 0) return conclude()
    const next = places.reduce((a, b) => a.endsAt <= b.endsAt ? a : b)
    if (next.endsAt > interruptAt) {
      now = interruptAt
      return interruptRest()
    }
    now = next.endsAt
    const { followUps, work } = stages(next.item)[next.stage]!
    trace.push(`${work.name} ${work.outcome}@${now}`)
    if (work.outcome === "ok") next.followUps.push(...followUps)
    else {
      ;(work.outcome === "fails" ? failures : defects).push(work.name)
      if (config.onFailure === "failFast") {
        places.splice(places.indexOf(next), 1)
        return interruptRest()
      }
    }
    if (++next.stage < stages(next.item).length) begin(next)
    else if (next.item[0].kind === "notification" && waiting.length > 0) {
      next.item = waiting.shift()!
      next.stage = 0
      begin(next)
    } else {
      places.splice(places.indexOf(next), 1)
      if (config.concurrency === 1) level.push(...next.followUps)
      else queue.push(...items(next.followUps))
    }
  }
}

// --- the processor ---

class Domain extends DomainEvent.Class<Domain>()("Domain", { id: Schema.Int }) {}
class Notification extends NotificationEvent.Class<Notification>()("Notification", { id: Schema.Int }, {
  topic: "notifications",
  key: ({ id }) => String(id)
}) {}

const toEvent = ({ id, kind }: Node) => kind === "domain" ? new Domain({ id }) : new Notification({ id })

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
      const work = publishing(messages.map(({ key }) => nodes[Number(key)]!))
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
