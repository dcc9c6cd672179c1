import { assert, describe, it } from "@effect/vitest"
import { Broker, ConsumerPolicy, EventConsumer, EventFlowError, Inbox } from "@event-flow/core"
import { Effect, Schedule } from "effect"
import { Boom, Journal, passTime } from "../fixtures.ts"
import {
  Bang,
  encode,
  failing,
  order,
  Ordered,
  Orders,
  publishError,
  settled,
  setup,
  Shipped,
  squashed,
  text
} from "./support.ts"

describe("a total policy", () => {
  const { deadLetter } = ConsumerPolicy
  const total = ConsumerPolicy.total(Orders, {
    errors: {
      Boom: ({ id }) =>
        id === "again" ? ConsumerPolicy.retry(Schedule.recurs(2), deadLetter("boomed")) : ConsumerPolicy.skip,
      Bang: deadLetter("banged")
    },
    publish: deadLetter("unpublished"),
    undecodable: ({ reason }) => deadLetter(reason),
    defect: deadLetter("died"),
    inbox: ConsumerPolicy.stop
  })

  it.effect("decides by the tag of the error", () =>
    Effect.gen(function*() {
      const { broker, deliver, log } = yield* setup({
        policy: total,
        publish: ([message]) =>
          message?.topic === "shipments" ? Effect.fail(publishError(new Broker.Rejected({ detail: "" }))) : Effect.void
      }, ({ n }, { collect }) => {
        if (n === 1) return Effect.fail(new Boom({ id: "again" }))
        if (n === 2) return Effect.fail(new Boom({ id: "no" }))
        if (n === 3) return Effect.fail(new Bang())
        return n === 4 ? Effect.die("a bug") : collect(new Shipped({ n }))
      })
      yield* deliver(...[1, 2, 3, 4, 5].map((n) => order(n)), order(6, { body: encode(null) }))
      yield* settled
      assert.deepStrictEqual(log, [1, 2, 3, 4, 5, 6].map((n) => `ack ${n}`))
      const dead = broker.batches.flat().filter(({ topic }) => topic !== "shipments")
      assert.deepStrictEqual(
        dead.map(({ headers, topic }) => [topic, text(headers, "dead-letter-attempts")]),
        [["boomed", "3"], ["banged", "1"], ["died", "1"], ["unpublished", "1"], ["InvalidBody", "1"]]
      )
    }))

  it("of several errors, does the most careful decision", () => {
    const failed = (...causes: ReadonlyArray<unknown>): ConsumerPolicy.HandlerFailed => ({
      _tag: "HandlerFailed",
      message: order(1),
      event: new Ordered({ n: 1 }),
      error: new EventFlowError.EventsFailed({
        failures: causes.map((cause) =>
          new EventFlowError.EventHandlerError({ event: "Ordered", handler: "OnOrdered", cause })
        ) as [EventFlowError.EventHandlerError]
      })
    })
    assert.strictEqual(total(failed(new Boom({ id: "no" })))._tag, "Skip")
    assert.strictEqual(total(failed(new Boom({ id: "no" }), new Bang()))._tag, "DeadLetter")
    assert.strictEqual(total(failed(new Boom({ id: "no" }), new Boom({ id: "again" }), new Bang()))._tag, "Retry")
    // What no handler declares is a bug
    assert.deepStrictEqual(total(failed({ _tag: "constructor" })), deadLetter("died"))
    const error = new EventFlowError.CascadeTooDeep({ event: "Ordered", maxDepth: 1 })
    assert.deepStrictEqual(total({ ...failed(new Bang()), error }), deadLetter("died"))
  })

  it("decides about the inbox", () => {
    const error = new Inbox.InboxError({ consumer: "group", messageId: "1", cause: "down" })
    assert.strictEqual(
      total({ _tag: "InboxFailed", message: order(1), event: new Ordered({ n: 1 }), error }),
      ConsumerPolicy.stop
    )
  })
})

describe("a policy of one's own", () => {
  it.effect("skips: acknowledged, and logged", () =>
    Effect.gen(function*() {
      const { broker, deliver, log, logger } = yield* setup({ policy: () => ConsumerPolicy.skip }, failing(1))
      yield* deliver(order(1), order(2, { body: encode({}) }))
      yield* settled
      assert.deepStrictEqual([log, broker.batches], [["ack 1", "ack 2"], []])
      assert.deepStrictEqual(logger.entries, [1, 2].map((n) => `Warn Skipped message ${n} of topic "orders"`))
    }))

  it.effect("ignores what it has no handler for, without a warning, and leaves the rest to another policy", () =>
    Effect.gen(function*() {
      const other = (id: number, type: string) => order(id, { attributes: { type } })
      const messages = [other(1, "Other.v1"), other(2, "com.example.other"), other(3, "Ordered.v9"), order(4)]
      const otherVersions = ["Ordered", "Ordered.v0", "Ordered.V1", "Ordered.v1.1"].map((type, i) => other(5 + i, type))
      const own = yield* setup(
        { policy: ConsumerPolicy.ignoreUnknownTypes(() => ConsumerPolicy.deadLetter("own")) },
        () => Effect.die("bug")
      )
      yield* own.deliver(...messages)
      yield* settled
      assert.deepStrictEqual(own.log, ["ack 1", "ack 2", "ack 3", "ack 4"])
      assert.deepStrictEqual(own.broker.batches.flat().map(({ attributes, topic }) => [topic, attributes["id"]]), [
        ["own", "3"],
        ["own", "4"]
      ])
      assert.isFalse(own.logger.entries.some((entry) => /message [12]/.test(entry)))

      const byDefault = yield* setup({ policy: ConsumerPolicy.ignoreUnknownTypes() }, () => Effect.void)
      yield* byDefault.deliver(...messages, ...otherVersions)
      yield* settled
      assert.strictEqual(byDefault.log.length, 8)
      assert.deepStrictEqual(
        byDefault.broker.batches.flat().map(({ attributes }) => attributes["id"]),
        ["3", "5", "6", "7", "8"]
      )
    }))

  it.effect("stops: the message stays unacknowledged, what is behind it is not handled, and whoever joins is told", () =>
    Effect.gen(function*() {
      const { entries, note, work } = new Journal()
      const { deliver, join, log, logger } = yield* setup(
        { concurrency: 2, policy: () => ConsumerPolicy.stop },
        ({ n }) =>
          n === 1 ? Effect.andThen(Effect.sleep(5), Effect.fail(new Boom({ id: "1" }))) : work(`order ${n}`, 10)
      )
      yield* deliver(order(1), order(2), order(3, { key: "key 1" }), order(4))
      const exit = yield* passTime(
        join.pipe(Effect.tapError((error) => note("detail" in error ? error.detail : error.message)))
      )
      const error = squashed(exit)
      assert.isTrue(error instanceof EventConsumer.ConsumerStopped && error.messageId === "1")
      assert.strictEqual((error as EventConsumer.ConsumerStopped).topic, "orders")
      assert.include(String((error as EventConsumer.ConsumerStopped).cause), "boom 1")
      assert.deepStrictEqual(log, ["nack 1", "ack 2", "closed"], "it lets go when what runs is done")
      assert.deepStrictEqual(entries, ["order 2 starts@0", "order 2 ends@10", "the policy says so"])
      assert.deepStrictEqual(logger.entries, ["Fatal The consumer has ended"])
    }))

  it.effect("decides by the error's type, and names the topic of dead letters", () =>
    Effect.gen(function*() {
      const policy: ConsumerPolicy.ConsumerPolicy = (failure) => {
        if (failure._tag === "Undecodable") return ConsumerPolicy.deadLetter("unreadable")
        if (failure._tag === "HandlerDied" || failure.error._tag !== "EventHandlerError") return ConsumerPolicy.stop
        return failure.error.cause instanceof Boom
          ? ConsumerPolicy.retry(Schedule.recurs(2), ConsumerPolicy.deadLetter("boomed"))
          : ConsumerPolicy.skip
      }
      const { broker, deliver, log } = yield* setup(
        { policy },
        ({ n }) => Effect.fail(n === 1 ? new Boom({ id: "1" }) : new Bang())
      )
      yield* deliver(order(1), order(2), order(3, { body: encode(null) }))
      yield* settled
      assert.deepStrictEqual(
        broker.batches.flat().map(({ attributes, headers, topic }) => [
          attributes["id"],
          topic,
          text(headers, "dead-letter-attempts")
        ]),
        [["1", "boomed", "3"], ["3", "unreadable", "1"]]
      )
      assert.deepStrictEqual(log, ["ack 1", "ack 2", "ack 3"])
    }))

  it.effect("may retry what cannot be decoded and what died", () =>
    Effect.gen(function*() {
      const { broker, deliver } = yield* setup(
        { policy: () => ConsumerPolicy.retry(Schedule.recurs(2)) },
        () => Effect.die("bug")
      )
      yield* deliver(order(1), order(2, { body: encode(null) }))
      yield* settled
      assert.deepStrictEqual(
        broker.batches.flat().map(({ headers }) => text(headers, "dead-letter-attempts")),
        ["3", "3"]
      )
    }))

  it.effect("that makes a new schedule each time does not retry for ever", () =>
    Effect.gen(function*() {
      const { broker, deliver } = yield* setup(
        { policy: () => ConsumerPolicy.retry(Schedule.recurs(3)) },
        () => Effect.fail(new Boom({ id: "1" }))
      )
      yield* deliver(order(1))
      yield* settled
      assert.strictEqual(text(broker.batches.flat()[0]?.headers, "dead-letter-attempts"), "4")
    }))

  it.effect("counts the retries of each kind of failure by itself", () =>
    Effect.gen(function*() {
      let attempt = 0
      const recurs = (times: number): Schedule.Schedule<unknown> => Schedule.recurs(times)
      const { broker, deliver } = yield* setup(
        {
          policy: (failure) =>
            failure._tag === "HandlerFailed" && failure.error._tag === "EventHandlerError" &&
              failure.error.cause instanceof Boom
              ? ConsumerPolicy.retry(recurs(2))
              : ConsumerPolicy.retry(recurs(5))
        },
        () => Effect.fail(attempt++ % 2 === 0 ? new Boom({ id: "1" }) : new Bang())
      )
      yield* deliver(order(1))
      yield* settled
      // Boom, Bang, Boom, Bang, Boom: after the third Boom its two retries are used up
      assert.strictEqual(text(broker.batches.flat()[0]?.headers, "dead-letter-attempts"), "5")
    }))

  it.effect("that throws ends the consumer with the defect, the message unacknowledged", () =>
    Effect.gen(function*() {
      const bug = new Error("a bug in the policy")
      const { deliver, join, log } = yield* setup({
        policy: () => {
          throw bug
        }
      }, failing(1))
      yield* deliver(order(1))
      assert.strictEqual(squashed(yield* Effect.exit(join)), bug)
      assert.deepStrictEqual(log, ["nack 1", "closed"])
    }))

  it.effect("that answers with no decision ends the consumer with a defect that says so", () =>
    Effect.gen(function*() {
      for (const [answer, named] of [[{ _tag: "Requeue" }, "Requeue"], [undefined, "undefined"]] as const) {
        const { deliver, join, log } = yield* setup(
          { policy: () => answer as unknown as ConsumerPolicy.Decision },
          failing(1)
        )
        yield* deliver(order(1))
        assert.strictEqual(
          (squashed(yield* Effect.exit(join)) as Error).message,
          `The policy of consumer "group" answered with ${named} to a failure of message 1 of topic "orders": ` +
            "answer with one of ConsumerPolicy.retry, deadLetter, skip, ignore and stop"
        )
        assert.deepStrictEqual(log, ["nack 1", "closed"])
      }
    }))
})
