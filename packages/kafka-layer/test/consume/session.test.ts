/** One membership after another. */
import { assert } from "@effect/vitest"
import { Consumer } from "@platformatic/kafka"
import { Clock, Deferred, Effect, Scheduler } from "effect"
import { Answers } from "../../src/internal/answers.ts"
import { Intake } from "../../src/internal/consume/intake.ts"
import * as Session from "../../src/internal/consume/session.ts"
import { consumerSettings } from "../../src/internal/settings.ts"
import { createTopic, live, servers, unique, withAdmin, withServer } from "../support/kafka.ts"

withServer("a session", () => {
  live("joins as whom the group knows the subscription, and does not wait for it", () =>
    Effect.gen(function*() {
      const topic = yield* createTopic("again")
      const group = unique("again")
      // A member that has fallen silent: it neither leaves the group nor joins again
      const silent = yield* Effect.acquireRelease(
        Effect.promise(async () => {
          const consumer = new Consumer({
            clientId: "silent",
            groupId: group,
            bootstrapBrokers: [...servers],
            sessionTimeout: 30_000,
            rebalanceTimeout: 30_000,
            heartbeatInterval: 29_000
          })
          consumer.topics.track(topic)
          await consumer.joinGroup({})
          return consumer
        }),
        (consumer) => Effect.promise(() => consumer.close(true))
      )
      const { memberId } = silent
      assert.isString(memberId)
      const joined = yield* Deferred.make<void>()
      yield* Effect.forkScoped(Session.run({
        settings: yield* consumerSettings({ bootstrapServers: servers }),
        subscribe: { topics: [topic], group, maxInFlight: 1 },
        retryTopics: [],
        intake: new Intake({
          maxInFlight: 1,
          scheduler: yield* Scheduler.Scheduler,
          onBlocked: () => undefined
        }),
        clock: yield* Clock.Clock,
        metrics: false,
        memory: {
          answers: new Answers(),
          histories: new Map(),
          memberId: memberId ?? undefined,
          hasConsumed: true,
          missingTopics: []
        },
        notifyRevoked: Effect.void,
        onState: (state) => state === "connected" ? Effect.asVoid(Deferred.succeed(joined, undefined)) : Effect.void
      }))
      yield* Deferred.await(joined)
      const members = yield* withAdmin(servers, async (admin) => {
        const groups = await admin.describeGroups({ groups: [group] })
        return [...groups.get(group)!.members.keys()]
      })
      assert.deepStrictEqual(members, [memberId])
    }).pipe(Effect.scoped))
})
