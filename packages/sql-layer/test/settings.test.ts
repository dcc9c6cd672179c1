/** Settings: what is refused, and how they are read from the environment. */
import { assert, describe, it } from "@effect/vitest"
import { Settings } from "@event-flow/core"
import { Inbox, Outbox, OutboxRelay, Transactional } from "@event-flow/sql-layer"
import { ConfigProvider, Duration, Effect } from "effect"

describe("a wrong option is refused with its name", () => {
  const relays: ReadonlyArray<OutboxRelay.Options> = [
    ...(["batchSize", "concurrency", "maxAttempts"] as const).flatMap((option) =>
      [0, -1, 1.5, Number.NaN, Infinity].map((value) => ({ [option]: value }))
    ),
    ...(["pollInterval", "publishTimeout", "drainTimeout", "retention", "metricsInterval"] as const).flatMap((option) =>
      [-1, Number.NaN, "soon" as never].map((value) => ({ [option]: value }))
    ),
    { afterDead: "skip" as never },
    { retryDelay: "1 second" as never }
  ]
  for (const options of relays) {
    const [[field, value]] = Object.entries(options) as [[string, unknown]]
    it.effect(`OutboxRelay, ${field}: ${String(value)}`, () =>
      Effect.gen(function*() {
        const error = yield* Effect.flip(OutboxRelay.settings.check(options))
        assert.deepStrictEqual([error.settings, error.field], ["OutboxRelay", field])
      }))
  }

  it.effect("Outbox and Inbox", () =>
    Effect.gen(function*() {
      const notify = yield* Effect.flip(Outbox.settings.check({ notify: "yes" as never }))
      assert.deepStrictEqual([notify.settings, notify.field], ["Outbox", "notify"])
      const retention = yield* Effect.flip(Inbox.settings.check({ retention: Infinity }))
      assert.deepStrictEqual([retention.settings, retention.field], ["Inbox", "retention"])
    }))

  it("Transactional throws", () => {
    assert.throws(
      () => Transactional.make({ isolation: "read uncommitted" as never }),
      Settings.InvalidSetting,
      /isolation of Transactional/
    )
  })
})

describe("how old something may become", () => {
  it.effect("may be longer than a timer can wait", () =>
    Effect.gen(function*() {
      assert.deepStrictEqual((yield* Inbox.settings.check({ retention: "90 days" })).retention, Duration.days(90))
      assert.deepStrictEqual((yield* OutboxRelay.settings.check({ retention: Infinity })).retention, Duration.infinity)
      assert.deepStrictEqual((yield* OutboxRelay.settings.check({})).retention, Duration.zero)
    }))
})

it.effect("the environment gives what it names", () =>
  Effect.gen(function*() {
    const env = ConfigProvider.fromEnvRecord({
      OUTBOX_RELAY_BATCH_SIZE: "7",
      OUTBOX_RELAY_RETENTION: "90 days",
      OUTBOX_RELAY_AFTER_DEAD: "hold",
      OUTBOX_NOTIFY: "no",
      INBOX_RETENTION: "30 days",
      INBOX_PRUNE_INTERVAL: "Infinity"
    })
    const { batchSize, afterDead, retention, pollInterval } = yield* OutboxRelay.settings.check(
      yield* OutboxRelay.settings.config.parse(env)
    )
    assert.deepStrictEqual(
      { batchSize, afterDead, retention, pollInterval },
      { batchSize: 7, afterDead: "hold", retention: Duration.days(90), pollInterval: 1_000 }
    )
    assert.isFalse((yield* Outbox.settings.config.parse(env)).notify)
    const inbox = yield* Inbox.settings.check(yield* Inbox.settings.config.parse(env))
    assert.deepStrictEqual(inbox, {
      retention: Duration.days(30),
      pruneInterval: Infinity,
      statementTimeout: 60_000
    })
    const wrong = yield* Effect.flip(
      Inbox.settings.config.parse(ConfigProvider.fromEnvRecord({ INBOX_RETENTION: "for ever" }))
    )
    assert.include(wrong.message, "INBOX_RETENTION")
  }))
