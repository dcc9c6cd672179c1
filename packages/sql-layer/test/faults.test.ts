/** What must not lose a message, nor publish one that was not committed, nor change the order of a key. */
import { PgClient } from "@effect/sql-pg"
import { assert, it } from "@effect/vitest"
import { type Broker, Mediator, type Message } from "@event-flow/core"
import { Outbox, OutboxAdmin, type OutboxRelay } from "@event-flow/sql-layer"
import { type Background, inBackground, watched } from "@event-flow/test-support/background"
import { startProgram } from "@event-flow/test-support/program"
import { Deferred, Effect, Fiber, type Layer, Random, Redacted, Schedule, type Scope } from "effect"
import type { SqlClient } from "effect/sql"
import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { afterAll } from "vitest"
import {
  brokerLayer,
  database,
  failingOn,
  left,
  recorder,
  rejected,
  startRelayOn,
  unreachable
} from "./support/relays.ts"
import {
  type Account,
  account,
  append,
  createTables,
  flow,
  orderOf,
  Place,
  placeByHand,
  readLog
} from "./support/shop.ts"
import { control, eventually, type OwnServer, ownServer, withOwnServer, withServer } from "./support/support.ts"

type Services = PgClient.PgClient | SqlClient.SqlClient | Scope.Scope

const table: Array<string> = []

afterAll(() => {
  if (table.length === 0) return
  const header =
    "| Fault | Committed | Published | Dead | Duplicates | Lost | Out of order |\n|---|--:|--:|--:|--:|--:|--:|"
  console.info(`${header}\n${table.join("\n")}`)
})

/** Nothing lost, nothing invented, every key in order. */
const settle = (fault: string, log: ReadonlyArray<string>, expected: Partial<Account>) =>
  Effect.gen(function*() {
    const found = yield* account(log)
    table.push(
      `| ${fault} | ${found.committed} | ${found.published} | ${found.dead} | ${found.duplicates} | ${found.lost} | ${found.outOfOrder} |`
    )
    assert.deepStrictEqual(
      found,
      {
        ...found,
        published: found.committed - (expected.dead ?? 0),
        ...expected,
        lost: 0,
        invented: 0,
        outOfOrder: 0
      },
      fault
    )
  })

const live = <E>(name: string, test: () => Effect.Effect<void, E, Services | Background>) =>
  it.live(name, () =>
    Effect.andThen(createTables, Effect.suspend(test)).pipe(
      watched,
      Effect.scoped,
      Effect.provide(database({ maxConnections: 70 }))
    ))

const started = <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.forkChild(effect, { startImmediately: true })

const url = Effect.map(PgClient.PgClient, (sql) => Redacted.value(sql.config.url!))

const empty = eventually("the outbox to be empty", Effect.map(left, (left) => left.length === 0))

/** A log in a file, which goes with the scope. */
const logFile = Effect.map(
  Effect.acquireRelease(
    Effect.sync(() => mkdtempSync(join(tmpdir(), "event-flow-outbox-"))),
    (directory) => Effect.sync(() => rmSync(directory, { recursive: true, force: true }))
  ),
  (directory) => join(directory, "log")
)

const toFile = (file: string) => brokerLayer((messages) => Effect.sync(() => append(file, messages.map(orderOf))))

/** A relay in a process of its own, which goes with the scope. */
const relayProcess = (file: string, hangs: "before" | "after" | "within") =>
  Effect.gen(function*() {
    const address = yield* url
    const said = new Set<string>()
    const { kill } = yield* startProgram(
      join(import.meta.dirname, "support/relayProcess.ts"),
      [address, file, hangs],
      (line) => said.add(line)
    )
    return {
      says: (what: string) => eventually(`the process to say ${what}`, () => said.has(what)),
      kill
    }
  })

/** Orders of ten keys, ten at a time, through the flow. */
const placeMany = (count: number) =>
  Effect.forEach(
    Array.from({ length: count }, (_, n) => `key-${n % 10}`),
    (key) => Mediator.send(new Place({ key })),
    { concurrency: 10, discard: true }
  ).pipe(Effect.provide(flow()))

/** Relays with connections of their own, which share a log. */
const startRelays = (count: number, broker: Layer.Layer<Broker.Broker>, options?: OutboxRelay.Options) =>
  Effect.flatMap(url, (url) =>
    Effect.forEach(
      Array.from({ length: count }),
      () => startRelayOn(url, broker, { pollInterval: "50 millis", ...options })
    ))

withServer("a process is killed (SIGKILL)", () => {
  live("between commit and publish", () =>
    Effect.gen(function*() {
      const file = yield* logFile
      const child = yield* relayProcess(file, "before")
      yield* child.says("committed")
      yield* child.says("hangs")
      yield* child.kill
      assert.deepStrictEqual(readLog(file), [])
      yield* startRelays(1, toFile(file))
      yield* empty
      yield* settle("Program killed between commit and publish", readLog(file), { committed: 200, duplicates: 0 })
    }))

  live("between publish and the mark in the database", () =>
    Effect.gen(function*() {
      const file = yield* logFile
      yield* placeMany(200)
      const child = yield* relayProcess(file, "after")
      yield* child.says("hangs")
      yield* child.kill
      const before = readLog(file).length
      assert.isAbove(before, 0)
      yield* startRelays(1, toFile(file))
      yield* empty
      // What it had published comes again, and nothing else
      yield* settle("Relay killed between publish and mark", readLog(file), { committed: 200, duplicates: before })
    }))

  live("in the middle of a batch, with two others running", () =>
    Effect.gen(function*() {
      const file = yield* logFile
      yield* placeMany(200)
      const child = yield* relayProcess(file, "within")
      yield* child.says("hangs")
      const before = readLog(file).length
      yield* startRelays(2, toFile(file))
      yield* placeMany(200)
      // All but the keys that the first one has
      yield* eventually("the others to publish", () => readLog(file).length > before + 50)
      const waiting = yield* left
      assert.isAbove(waiting.length, 0)
      yield* child.kill
      yield* empty
      yield* settle("Relay killed within a batch, two others running", readLog(file), {
        committed: 400,
        duplicates: before
      })
    }))
})

withServer("nothing is lost", () => {
  live("while the broker is away", () =>
    Effect.gen(function*() {
      let isAway = false
      let refused = 0
      const broker = recorder((texts) => {
        if (!isAway) return Effect.void
        refused++
        return Effect.fail(unreachable(texts[0]!))
      })
      const orders = () => broker.log().map((text) => text.startsWith("{") ? toOrder(text) : text)
      yield* startRelays(2, broker.layer, { maxAttempts: 1 })
      yield* placeMany(100)
      isAway = true
      yield* placeMany(200)
      yield* eventually("attempts in vain", () => refused > 30)
      const { dead, pending } = yield* OutboxAdmin.status
      assert.deepStrictEqual([dead, pending > 0], [0, true])
      isAway = false
      yield* empty
      yield* settle("Broker away for a while", orders(), { committed: 300, duplicates: 0 })
    }))

  live("when a thousand transactions commit out of order", () =>
    Effect.gen(function*() {
      const log: Array<ReadonlyArray<string>> = []
      const relays = [0, 1].map(() => recorder(() => Effect.yieldNow, log))
      for (const relay of relays) yield* startRelays(1, relay.layer, { concurrency: 2, batchSize: 20 })
      // Each has its id before it waits for its turn, which is given at random
      const open: Array<Deferred.Deferred<void>> = []
      let begun = 0
      let inserted = 0
      let committed = 0
      let overtaken = 0
      let newest = 0
      const turn = Effect.suspend(() => {
        const id = ++inserted
        const release = Deferred.makeUnsafe<void>()
        open.push(release)
        return Effect.andThen(
          Deferred.await(release),
          Effect.sync(() => {
            if (id < newest) overtaken++
            newest = Math.max(newest, id)
          })
        )
      })
      const placing = yield* inBackground(
        Effect.forEach(
          Array.from({ length: 1_000 }),
          () =>
            Effect.flatMap(Random.nextIntBetween(0, 200), (key) => {
              begun++
              return placeByHand(`key-${key}`, turn)
            }).pipe(
              Effect.andThen(Effect.sync(() => committed++))
            ),
          { concurrency: 60, discard: true }
        ).pipe(Effect.provide(Outbox.layer()))
      )
      yield* Effect.gen(function*() {
        // Some stay open for as long as others come
        if (open.length > (begun < 1_000 ? 20 : 0)) {
          const [release] = open.splice(yield* Random.nextIntBetween(0, open.length - 1), 1)
          yield* Deferred.succeed(release!, undefined)
        }
        yield* Effect.sleep("1 millis")
      }).pipe(Effect.repeat({ until: () => committed === 1_000 }))
      yield* Fiber.join(placing)
      yield* empty
      assert.isAbove(overtaken, 300)
      for (const { calls } of relays) assert.isAbove(calls.length, 0)
      yield* settle("1,000 transactions that commit out of order, two relays", log.flat(), {
        committed: 1_000,
        duplicates: 0
      })
    }))

  live("to poison rows among good ones", () =>
    Effect.gen(function*() {
      const isPoison = (text: string) => text.endsWith(":25")
      const broker = recorder(
        failingOn((text) => isPoison(text) ? Effect.fail(rejected(text)) : undefined)
      )
      yield* startRelays(2, broker.layer, { maxAttempts: 3, retryDelay: () => 20 })
      yield* Effect.forEach(
        Array.from({ length: 500 }, (_, n) => `key-${n % 10}`),
        (key) => placeByHand(key),
        { concurrency: 10, discard: true }
      ).pipe(Effect.provide(Outbox.layer()))
      yield* eventually(
        "all to be published or dead",
        Effect.map(OutboxAdmin.status, ({ dead, pending }) => pending === 0 && dead === 10)
      )
      const dead = yield* OutboxAdmin.list()
      assert.isTrue(dead.every(({ attempts, lastError }) => attempts >= 3 && lastError!.includes("poison")))
      yield* settle("Ten poison rows among 500", broker.log(), { committed: 500, duplicates: 0, dead: 10 })
    }))

  live("and nothing invented, when commands fail, die and are interrupted", () =>
    Effect.gen(function*() {
      const broker = recorder()
      const log = () => broker.log().map(toOrder)
      yield* startRelays(1, broker.layer)
      const faults = [undefined, "fail", "die", "hang", "failLater"] as const
      let hanging = 0
      yield* Effect.forEach(
        Array.from({ length: 200 }, (_, n) => n),
        (n) =>
          Effect.gen(function*() {
            const fault = faults[n % 5]
            // A key of its own for those that hang: they have its lock
            const key = fault === "hang" ? `key-${n}` : `key-${n % 10}`
            const before = hanging
            const sending = yield* started(Effect.exit(
              Mediator.send(new Place(fault === undefined ? { key } : { key, fault }))
            ))
            if (fault === "hang") {
              yield* eventually("it to hang", () => hanging > before)
              yield* Fiber.interrupt(sending)
            } else {
              assert.strictEqual((yield* Fiber.join(sending))._tag, fault === undefined ? "Success" : "Failure")
            }
          }),
        { discard: true }
      ).pipe(Effect.provide(flow({
        onHang: Effect.sync(() => {
          hanging++
        })
      })))
      assert.strictEqual(hanging, 40)
      yield* empty
      yield* settle("160 of 200 commands fail, die or are interrupted", log(), { committed: 40, duplicates: 0 })
    }))
})

/** The order in a message of the flow. */
const toOrder = (text: string): string =>
  orderOf({ body: new TextEncoder().encode(text) } as unknown as Message.Message)

withOwnServer("the database", () => {
  for (const how of ["stop", "kill"] as const) {
    const what = how === "stop" ? "restarted" : "killed (SIGKILL) and started"
    it.live(`is ${what} while commands and relays run`, () =>
      Effect.gen(function*() {
        const server: OwnServer = yield* ownServer()
        yield* Effect.gen(function*() {
          yield* createTables
          const broker = recorder(() => Effect.sleep("1 millis"))
          yield* startRelays(2, broker.layer, { concurrency: 2 })
          let isOver = false
          let placed = 0
          // What failed is tried again, as another order: what was committed is what the table says
          const producer = (key: string) =>
            Mediator.send(new Place({ key })).pipe(
              Effect.exit,
              Effect.andThen((exit) =>
                exit._tag === "Success" ? Effect.sync(() => placed++) : Effect.sleep("50 millis")
              ),
              Effect.repeat({ schedule: Schedule.spaced("2 millis"), until: () => isOver })
            )
          const producing = yield* inBackground(
            Effect.forEach(Array.from({ length: 8 }, (_, n) => `key-${n}`), producer, {
              concurrency: "unbounded",
              discard: true
            }).pipe(Effect.provide(flow()))
          )
          const some = (what: string) =>
            Effect.suspend(() => {
              const before = placed
              const published = broker.log().length
              return eventually(what, () => placed > before + 200 && broker.log().length > published + 200)
            })
          yield* some("commands and relays to be at work")
          yield* control(server, how)
          yield* control(server, "start")
          yield* some("commands and relays to go on")
          isOver = true
          yield* Fiber.join(producing)
          yield* empty
          yield* settle(`Database ${what} while commands and relays run`, broker.log().map(toOrder), {})
        }).pipe(Effect.provide(database({ server: server.url, maxConnections: 20 })))
      }).pipe(watched, Effect.scoped))
  }
})
