/**
 * The consumer with its lanes, policies and inbox, under every fault: each message is handled or dead-lettered, once with
 * an inbox, in the order of its key, one of a lane at a time, within its bounds, and nothing runs after the close.
 */
import {
  Command,
  ConsumerPolicy,
  Correlation,
  EventConsumer,
  EventFlow,
  EventHandler,
  Mediator,
  NotificationEvent
} from "@event-flow/core"
import { Client, Inbox, Scenario, Store } from "@event-flow/simulation"
import { Effect, Exit, Layer, Schedule, Schema } from "effect"
import { processOf } from "../../src/internal/kernel/scheduler.ts"
import { runScenario } from "../../src/internal/run/run.ts"
import { fromSeed } from "../../src/internal/search/settings.ts"
import { Chance } from "./kit.ts"

class Said extends NotificationEvent.Class<Said>()("Said", { who: Schema.String, n: Schema.Int }, {
  topic: "said",
  key: ({ who }) => who === "nobody" ? undefined : who
}) {}
class Say extends Command.Class<Say>()("Say", { payload: { who: Schema.String, n: Schema.Int }, emits: [Said] }) {}
class Bad extends Schema.TaggedError<Bad>()("Bad", { n: Schema.Int }) {}
const Hear = EventHandler.make("Hear", { on: Said, error: Bad })
class Saying extends EventFlow.make("Saying", { commands: [Say] }) {}

const Heard = Store.table<number>("heard")

export const run = (seed: number): string | undefined => {
  const chance = new Chance(seed, "consumer")
  const dedupe = chance.pick(true, false)
  const concurrency = chance.pick(1, 2, 3, 8)
  const rates = { fail: chance.pick(0, 0, 0.1, 0.4), die: chance.pick(0, 0, 0.05), sleep: chance.pick(0, 0.3, 0.9) }
  const isUninterruptible = chance.pick(false, false, true)
  const doesStop = chance.pick(false, false, true)
  let broken: string | undefined
  const fail = (what: string): void => {
    broken ??= what
  }
  /** What runs in each life of a process, and which lives have ended in order. */
  const running = new Map<string, Set<string>>()
  const ended = new Set<string>()
  const lanes = new Map<string, string>()
  const attempts = new Map<string, number>()
  const handled: Array<string> = []
  const life = Effect.withFiber((fiber) => {
    const process = processOf(fiber)!
    return Effect.succeed(`${process.name}/${process.epoch}`)
  })

  const work = Effect.fnUntraced(function*(id: string, attempt: number, n: number) {
    const u = chance.of(`${id}/${attempt}`)
    const v = chance.of(`${id}/${attempt} sleeps`)
    if (v < rates.sleep) yield* Effect.sleep(Math.round(u * 300))
    if (v < rates.sleep / 2) yield* Effect.yieldNow
    if (u < rates.fail) return yield* new Bad({ n })
    if (u > 1 - rates.die) return yield* Effect.die(new Error("a bug"))
    yield* Effect.mapError(Heard.update(id, (times = 0) => times + 1), () => new Bad({ n }))
    if (v > 0.8) yield* Effect.sleep(Math.round(v * 100))
  })

  const HearLive = Hear.toLayer(
    [Store.Store],
    Effect.fnUntraced(function*({ n, who }) {
      const place = yield* life
      const id = (yield* Correlation.current)!.causationId!
      const attempt = (attempts.get(id) ?? 0) + 1
      attempts.set(id, attempt)
      const name = `${id}/${attempt}`
      const here = running.get(place) ?? new Set()
      running.set(place, here)
      const lane = who === "nobody" ? undefined : `${place}/${who}`
      const body = isUninterruptible ? Effect.uninterruptible(work(id, attempt, n)) : work(id, attempt, n)
      let isStarted = false
      yield* Effect.onExit(
        Effect.suspend(() => {
          isStarted = true
          if (ended.has(place)) fail(`${place} starts ${n} after its close`)
          if (here.size >= concurrency) fail(`${here.size + 1} at once of ${concurrency}`)
          if (lane !== undefined && lanes.has(lane)) fail(`${name} beside ${lanes.get(lane)} in a lane`)
          if (lane !== undefined) lanes.set(lane, name)
          here.add(name)
          return body
        }),
        (exit) =>
          Effect.sync(() => {
            if (!isStarted) return
            if (ended.has(place)) fail(`${place} ends ${n} after its close`)
            here.delete(name)
            if (lane !== undefined) lanes.delete(lane)
            if (Exit.isSuccess(exit)) handled.push(id)
          })
      )
    })
  )

  const policy: ConsumerPolicy.ConsumerPolicy = (failure) =>
    failure._tag === "HandlerFailed"
      ? ConsumerPolicy.retry(
        Schedule.jittered(Schedule.spaced("50 millis")).pipe(Schedule.upTo({ times: 2 })),
        doesStop ? ConsumerPolicy.stop : ConsumerPolicy.deadLetter()
      )
      : ConsumerPolicy.deadLetter()

  // Released after the consumer: what runs then has outlived it
  const Lives = Layer.effectDiscard(
    Effect.acquireRelease(
      Effect.tap(life, (place) => Effect.sync(() => ended.delete(place))),
      (place) =>
        Effect.sync(() => {
          ended.add(place)
          const left = running.get(place)?.size ?? 0
          if (left > 0) fail(`${place}: ${left} handler(s) run after the close`)
        })
    )
  )
  const Ears = EventConsumer.layer([Hear], {
    group: "ears",
    concurrency,
    maxInFlight: chance.pick(undefined, 1, 2, 5),
    drainTimeout: chance.pick("30 seconds", "20 millis", "0 millis"),
    dedupe,
    policy
  }).pipe(Layer.provide([HearLive, Inbox.layer]), Layer.provideMerge(Lives))

  const retry = { schedule: Schedule.spaced("100 millis"), times: 200 }
  const say = (who: string, n: number) =>
    Scenario.step(`say ${n}`, Effect.retry(Client.call("mouth", Mediator.send(new Say({ who, n }))), retry))
  const keys = chance.pick(1, 2, 4)
  const steps = Array.from(
    { length: chance.pick(3, 6, 12) },
    (_, n) => say(chance.isHit(0.1) ? "nobody" : `k${chance.below(keys)}`, n)
  )
  const Mouth = Saying.layer().pipe(
    Layer.provide(Say.toLayer(({ n, who }, { collect }) => collect(new Said({ n, who }))))
  )

  const scenario = Scenario.make({ mouth: Mouth, ears: { layer: Ears, instances: chance.pick(1, 2, 3) } }, {
    clients: { one: steps.filter((_, n) => n % 2 === 0), other: steps.filter((_, n) => n % 2 === 1) },
    eventually: {
      "handled or dead-lettered": (view) => {
        const dead = new Set(view.messages("said.dead-letter").map(({ attributes }) => attributes["id"]))
        const lost = view.messages("said").find(({ attributes: { id = "" } }) =>
          !dead.has(id) && view.row(Heard, id) === undefined && !handled.includes(id)
        )
        return lost === undefined || `${lost.attributes["id"]} was lost`
      },
      "once with an inbox": (view) => {
        const twice = dedupe ? [...view.rows(Heard)].find(([, times]) => times !== 1) : undefined
        return twice === undefined || `${twice[0]} was handled ${twice[1]} times`
      },
      "in the order of the key, at first": (view) => {
        const dead = new Set(view.messages("said.dead-letter").map(({ attributes }) => attributes["id"]))
        const places = new Map(
          view.messages("said").map(({ attributes, key }, offset) => [attributes["id"], { key, offset }])
        )
        const last = new Map<unknown, number>()
        for (const id of new Set(handled)) {
          const place = places.get(id)
          if (place?.key === undefined) continue
          const before = last.get(place.key) ?? -1
          // What another consumer has dead-lettered may be handled late
          if (place.offset < before && !dead.has(id)) return `@${place.offset} was first handled after @${before}`
          last.set(place.key, Math.max(before, place.offset))
        }
        return true
      }
    }
  })
  // What the nodes have is of no interest here
  const any = scenario as unknown as Scenario.Scenario
  const outcome = runScenario(any, fromSeed(any, seed))
  return broken ?? (outcome.broken === undefined ? undefined : `${outcome.broken.invariant}: ${outcome.broken.detail}`)
}
