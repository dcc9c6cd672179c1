/** Mediator, processor, pool and closing: each handler once, answered when all has ended, nothing after the close. */
import { Broker, Command, DomainEvent, EventFlow, EventHandler, Mediator, NotificationEvent } from "@event-flow/core"
import { Cause, Effect, Exit, Fiber, Layer, Schema, Scope } from "effect"
import { Chance, runProgram } from "./kit.ts"

class Bad extends Schema.TaggedError<Bad>()("Bad", { at: Schema.String }) {}
class Happened extends DomainEvent.Class<Happened>()("Happened", { id: Schema.String, depth: Schema.Int }) {}
class Told extends NotificationEvent.Class<Told>()("Told", { id: Schema.String }, { topic: "told", key: () => "k" }) {}
class Do extends Command.Class<Do>()("Do", {
  payload: { id: Schema.String, events: Schema.Int },
  error: Bad,
  emits: [Happened, Told]
}) {}
const React = EventHandler.make("React", { on: Happened, emits: [Happened, Told], sends: [Do], error: Bad })
const Watch = EventHandler.make("Watch", { on: Happened })
class Flow extends EventFlow.make("Flow", { commands: [Do], handlers: [React, Watch] }) {}

/** The send that something belongs to. */
const rootOf = (id: string): string => id.split(".")[0]!

export const run = (seed: number): string | undefined => {
  const chance = new Chance(seed, "mediator")
  const rates = {
    fail: chance.pick(0, 0, 0.05, 0.2),
    die: chance.pick(0, 0, 0.03),
    sleep: chance.pick(0, 0.3, 0.8),
    nest: chance.pick(0, 0.15)
  }
  const drainTimeout = chance.pick("30 seconds", "10 millis", "0 millis")
  const closeAfter = chance.pick(undefined, undefined, chance.below(60), 0)
  const interruptAfter = chance.pick(undefined, undefined, chance.below(40))
  const fanOut = chance.pick(0, 1, 3)
  return runProgram(seed, chance, ({ fail }) => {
    let isClosed = false
    const running = new Map<string, number>()
    const ran = new Map<string, number>()
    const told: Array<string> = []

    /** The work of a handler. */
    const work = (id: string, at: string) =>
      Effect.suspend(() => {
        let isStarted = false
        const body = Effect.suspend(() => {
          isStarted = true
          running.set(rootOf(id), (running.get(rootOf(id)) ?? 0) + 1)
          if (isClosed) fail(`${at} starts after the close`)
          return Effect.gen(function*() {
            const u = chance.of(at)
            if (chance.of(`${at} sleeps`) < rates.sleep) yield* Effect.sleep(Math.round(u * 20))
            yield* Effect.void
            if (u < rates.fail) return yield* new Bad({ at })
            if (u > 1 - rates.die) return yield* Effect.die(new Error(at))
          })
        })
        return Effect.onExit(body, () =>
          Effect.sync(() => {
            if (!isStarted) return
            running.set(rootOf(id), running.get(rootOf(id))! - 1)
            if (isClosed) fail(`${at} ends after the close`)
          }))
      })
    const once = (what: string) => Effect.sync(() => ran.set(what, (ran.get(what) ?? 0) + 1))

    const DoLive = Do.toLayer(Effect.fnUntraced(function*({ events, id }, { collect }) {
      yield* work(id, `do ${id}`)
      for (let i = 0; i < events; i++) {
        const next = `${id}.${i}`
        yield* collect(
          chance.of(`${next} is told`) < 0.3 ? new Told({ id: next }) : new Happened({ id: next, depth: 0 })
        )
      }
    }))
    const ReactLive = React.toLayer(Effect.fnUntraced(function*({ depth, id }, { collect }) {
      yield* once(`react ${id}`)
      yield* work(id, `react ${id}`)
      for (let i = 0; depth < 3 && i < fanOut; i++) {
        const next = `${id}.${i}`
        if (chance.of(`${next} follows`) > 0.5) continue
        yield* collect(
          chance.of(`${next} is told`) < 0.3 ? new Told({ id: next }) : new Happened({ id: next, depth: depth + 1 })
        )
      }
      if (depth < 2 && chance.of(`${id} nests`) < rates.nest) {
        yield* Effect.ignore(Mediator.send(new Do({ id: `${id}.n`, events: 2 })))
      }
    }))
    const WatchLive = Watch.toLayer(({ id }) =>
      Effect.andThen(once(`watch ${id}`), Effect.orDie(quietly(work(id, `watch ${id}`))))
    )
    const quietly = Effect.catch(() => Effect.void)
    const BrokerLive = Layer.succeed(Broker.Broker)({
      name: "told",
      publish: (messages) =>
        Effect.delay(
          Effect.sync(() => {
            for (const message of messages) told.push(new TextDecoder().decode(message.body ?? undefined))
          }),
          chance.below(5)
        )
    })
    const FlowLive = Flow.layer({
      concurrency: chance.pick<number | "unbounded">(1, 1, 2, 4, "unbounded"),
      onFailure: chance.pick("failFast", "accumulate", "log"),
      drainTimeout
    }).pipe(Layer.provide([DoLive, ReactLive, WatchLive, BrokerLive]))

    return Effect.gen(function*() {
      const scope = yield* Scope.make()
      const built = yield* Layer.buildWithScope(FlowLive, scope)
      const sends: Array<Fiber.Fiber<unknown, unknown>> = []
      for (let r = 0; r < chance.pick(1, 2, 4); r++) {
        const root = `r${r}`
        const send = Effect.provideContext(Mediator.send(new Do({ id: root, events: chance.pick(0, 1, 4) })), built)
        const after = chance.below(30)
        sends.push(
          yield* Effect.forkDetach(Effect.gen(function*() {
            yield* Effect.sleep(after)
            const exit = yield* Effect.exit(send)
            const left = running.get(root) ?? 0
            if (left !== 0) fail(`${root} is answered while ${left} handler(s) run`)
            const isWrong = Exit.isFailure(exit) && !Cause.hasInterrupts(exit.cause) && !isClosedCause(exit.cause)
            if (isWrong && rates.fail === 0 && rates.die === 0) {
              fail(`${root} failed: ${Cause.pretty(exit.cause).slice(0, 200)}`)
            }
          }))
        )
      }
      if (interruptAfter !== undefined) {
        yield* Effect.sleep(interruptAfter)
        yield* Fiber.interrupt(sends[0]!)
        if ((running.get("r0") ?? 0) !== 0) fail("handlers run after their send was interrupted")
      }
      if (closeAfter !== undefined) {
        yield* Effect.sleep(closeAfter)
        yield* Scope.close(scope, Exit.void)
        isClosed = true
      }
      yield* Fiber.awaitAll(sends)
      if (closeAfter === undefined) yield* Scope.close(scope, Exit.void)
      isClosed = true
      yield* Effect.sleep(1000)
      for (const [what, n] of ran) if (n !== 1) fail(`${what} ran ${n} times`)
      if (new Set(told).size !== told.length) fail(`told twice: ${told.join()}`)
    })
  })
}

/** A send after the close dies, and says why. */
const isClosedCause = (cause: Cause.Cause<unknown>): boolean => /FlowClosed/.test(Cause.pretty(cause))
