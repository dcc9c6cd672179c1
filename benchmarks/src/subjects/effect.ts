/**
 * The same handlers, called directly in one fiber: no mediator, no registry, no failure policy. What a flow costs is
 * what it takes more than this.
 */
import * as Effect from "effect/Effect"
import { collector } from "../collector.ts"
import * as flow from "../flow.ts"
import { first, second, third } from "../flow.ts"
import type { Run, Subject } from "../subject.ts"
import { versionOf } from "../versions.ts"
import type { Workload } from "../workload.ts"
import { countMessage, encode, fanOut, meetingId, seatOf, tally, userId } from "../workload.ts"

const none = collector<never>()

const broker = {
  publish: (_topic: string, body: Uint8Array): Effect.Effect<void> => Effect.sync(() => countMessage(body))
}

const slowInOrder = Effect.fnUntraced(function*(event: flow.UserJoined) {
  yield* first.handleSlowly(event, none)
  yield* second.handleSlowly(event, none)
  yield* third.handleSlowly(event, none)
})

const payload = (unit: number) => ({ meetingId, userId, seat: seatOf(unit) })

// Each loop is one generator for all units: the calls of the handlers are all that a unit pays for
const loops: Record<Workload, (units: number) => Effect.Effect<void>> = {
  W1: Effect.fnUntraced(function*(units) {
    for (let unit = 0; unit < units; unit++) {
      tally.answers += yield* flow.join(new flow.Join(payload(unit)))
    }
  }),
  W2: Effect.fnUntraced(function*(units) {
    for (let unit = 0; unit < units; unit++) {
      const collected = collector<flow.UserJoined>()
      const answer = yield* flow.joinOne(new flow.JoinOne(payload(unit)), collected)
      for (const event of collected.events) {
        yield* first.handle(event, none)
      }
      tally.answers += answer
    }
  }),
  W3: Effect.fnUntraced(function*(units) {
    for (let unit = 0; unit < units; unit++) {
      const collected = collector<flow.UserJoined>()
      const answer = yield* flow.joinMany(new flow.JoinMany(payload(unit)), collected)
      for (const event of collected.events) {
        yield* first.handle(event, none)
        yield* second.handle(event, none)
        yield* third.handle(event, none)
      }
      tally.answers += answer
    }
  }),
  W4: Effect.fnUntraced(function*(units) {
    for (let unit = 0; unit < units; unit++) {
      const collected = collector<flow.UserJoined>()
      const answer = yield* flow.joinMany(new flow.JoinMany(payload(unit)), collected)
      yield* Effect.forEach(collected.events, slowInOrder, { concurrency: fanOut, discard: true })
      tally.answers += answer
    }
  }),
  W5: Effect.fnUntraced(function*(units) {
    for (let unit = 0; unit < units; unit++) {
      const collected = collector<flow.StepTaken>()
      const answer = yield* flow.joinStep(new flow.JoinStep(payload(unit)), collected)
      // The array grows while it is walked: follow-ups come after what is already waiting
      for (const event of collected.events) {
        yield* flow.onStep(event, collected)
      }
      tally.answers += answer
    }
  }),
  W6: Effect.fnUntraced(function*(units) {
    for (let unit = 0; unit < units; unit++) {
      const collected = collector<flow.SeatTaken>()
      const answer = yield* flow.joinNotify(new flow.JoinNotify(payload(unit)), collected)
      for (const event of collected.events) {
        yield* broker.publish("meetings", encode(event))
      }
      tally.answers += answer
    }
  })
}

const chain = Effect.gen(function*() {
  let collected = collector<flow.StepTaken>()
  yield* flow.joinStep(new flow.JoinStep(payload(0)), collected)
  // One level at a time, so that the chain is not held as a whole
  while (collected.events.length > 0) {
    const events = collected.events
    collected = collector<flow.StepTaken>()
    for (const event of events) yield* flow.onStep(event, collected)
  }
})

const subject: Subject = {
  name: "effect",
  packages: [versionOf("effect")],
  setup: (workload): Run => (units) => Effect.runPromise(loops[workload](units)),
  chain: (length, probe) => flow.withChain(length, probe, () => Effect.runPromise(chain))
}

export default subject
