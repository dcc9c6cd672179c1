import { assert, describe, it } from "@effect/vitest"
import {
  EventConsumer,
  EventEmitter,
  EventHandler,
  EventMap,
  MemoryBroker,
  NotificationEvent,
  Upcast
} from "@event-flow/core"
import { Effect, Layer, Schema } from "effect"
import { Journal, open, RecordingLogger } from "../fixtures.ts"
import { text } from "./support.ts"

describe("versions", () => {
  const upcast = Upcast.from(Schema.Struct({ name: Schema.String }))
    .to(Schema.Struct({ first: Schema.String, last: Schema.String }), ({ name }) => {
      if (name === "") throw new Error("an upcast with a bug")
      const [first = "", last = ""] = name.split(" ")
      return { first, last }
    })
    .toCurrent(({ first, last }) => ({ full: `${last}, ${first}` }))

  // The same event as three generations of the program define it
  class V1 extends NotificationEvent.Class<V1>()("Hired", { name: Schema.String }, { topic: "people" }) {}
  class V2 extends NotificationEvent.Class<V2>()("Hired", { first: Schema.String, last: Schema.String }, {
    topic: "people",
    version: 2,
    upcast: Upcast.from(Schema.Struct({ name: Schema.String })).toCurrent(({ name }) => ({ first: name, last: "" }))
  }) {}
  class Hired extends NotificationEvent.Class<Hired>()("Hired", { full: Schema.String }, {
    topic: "people",
    version: 3,
    upcast
  }) {}
  class V4 extends NotificationEvent.Class<V4>()("Hired", { id: Schema.Int }, { topic: "people", version: 4 }) {}
  const OnHired = EventHandler.make("OnHired", { on: Hired })

  it.effect("older messages are upcast on their way through the broker, newer ones and bad ones dead-lettered", () =>
    Effect.gen(function*() {
      const { entries, note } = new Journal()
      const logger = new RecordingLogger()
      yield* open(
        EventConsumer.layer([OnHired], { group: "group" }).pipe(
          Layer.provide(OnHired.toLayer((hired) => note(`${hired instanceof Hired} ${hired.full}`))),
          Layer.provide(logger.layer)
        )
      )
      yield* EventEmitter.EventEmitter.use(({ publish }) =>
        publish([
          new V1({ name: "Ada Lovelace" }),
          new V2({ first: "Grace", last: "Hopper" }),
          new Hired({ full: "Turing, Alan" }),
          new V4({ id: 4 }),
          new V1({ name: "" })
        ])
      ).pipe(Effect.provide(EventEmitter.layer.pipe(Layer.fresh, Layer.provide(EventMap.layer([])))))
      yield* MemoryBroker.MemoryBroker.use(({ awaitIdle }) => awaitIdle)
      assert.deepStrictEqual(entries, ["true Lovelace, Ada", "true Hopper, Grace", "true Turing, Alan"])
      const letters = yield* MemoryBroker.MemoryBroker.use(({ messages }) => messages("people.dead-letter"))
      assert.deepStrictEqual(letters.map(({ attributes }) => attributes["type"]), ["Hired.v4", "Hired.v1"])
      const [newer, bad] = letters.map(({ headers }) => text(headers, "dead-letter-error"))
      assert.include(newer, "UnknownVersion: this program knows \"Hired\" up to version 3: deploy it first")
      assert.include(bad, "an upcast with a bug")
      assert.isTrue(logger.entries.some((entry) => entry.startsWith("Error Decoding died on message")))
    }).pipe(Effect.provide(MemoryBroker.layer())))
})
