/** The settings of a layer: options, the environment, errors and the table of the documentation. */
import { assert, describe, it } from "@effect/vitest"
import { Settings } from "@event-flow/core"
import { Config, ConfigProvider, Duration, Effect, Redacted, Schema } from "effect"

const fields = {
  /** Where the servers are. */
  servers: Schema.Array(Schema.Trim.check(Schema.isPattern(/:\d+$/, { expected: "host:port" }))).check(
    Schema.isNonEmpty()
  ),
  wait: Settings.withDefault(Settings.duration({ minimum: 0 }), "5 seconds"),
  forever: Settings.withDefault(Settings.duration({ infinite: true }), "Infinity"),
  count: Settings.withDefault(Settings.wholeNumber({ maximum: 100 }), 7),
  acks: Settings.withDefault(Schema.Literals(["all", "leader"]), "all"),
  declare: Settings.withDefault(Schema.Boolean, true),
  delays: Settings.withDefault(Schema.Array(Settings.duration()), ["1 second", "1 minute"]),
  password: Schema.optional(Schema.Redacted(Schema.String)),
  sasl: Schema.optional(Schema.Struct({
    mechanism: Schema.Literals(["PLAIN", "SCRAM"]),
    username: Schema.String.check(Schema.isNonEmpty()),
    password: Schema.Redacted(Schema.String)
  })),
  tls: Schema.optional(Schema.Union([Schema.Boolean, Schema.Struct({ ca: Schema.optional(Schema.String) })])),
  route: Settings.withDefault(Settings.code<(topic: string) => string>(), (topic: string) => topic)
}

const settings = Settings.make("MyBroker", {
  prefix: "MY",
  schema: Schema.Struct(fields).check(
    Schema.makeFilter((s) =>
      s.acks === "leader" && s.count > 10 ? { path: ["count"], issue: "at most 10 with acks \"leader\"" } : undefined
    )
  )
})

type Options = Schema.Struct.Encoded<typeof fields>

const servers = ["localhost:1"]

const fromEnv = (env: Record<string, string>) => settings.config.parse(ConfigProvider.fromEnvRecord(env))

describe("options", () => {
  it.effect("have defaults", () =>
    Effect.gen(function*() {
      const { route, ...rest } = yield* settings.check({ servers, acks: undefined })
      assert.deepStrictEqual(rest, {
        servers: ["localhost:1"],
        wait: 5000,
        forever: Infinity,
        count: 7,
        acks: "all",
        declare: true,
        delays: [1000, 60_000]
      })
      assert.strictEqual(route("topic"), "topic")
    }))

  it.effect("are taken as they are given, durations in milliseconds", () =>
    Effect.gen(function*() {
      const sasl = { mechanism: "PLAIN", username: "a", password: Redacted.make("b") } as const
      const { servers, wait, tls, sasl: checked } = yield* settings.check({
        servers: [" one:1 ", "two:2"],
        wait: Duration.minutes(1),
        tls: { ca: "pem" },
        sasl
      })
      assert.deepStrictEqual({ servers, wait, tls, checked }, {
        servers: ["one:1", "two:2"],
        wait: 60_000,
        tls: { ca: "pem" },
        checked: sasl
      })
      assert.strictEqual((yield* settings.check({ servers, tls: false })).tls, false)
    }))

  const wrong: ReadonlyArray<readonly [string, Partial<Options>]> = [
    ["servers", { servers: [] }],
    ["servers[1]", { servers: ["one:1", "two"] }],
    ["wait", { wait: -1 }],
    ["wait", { wait: "-5 seconds" }],
    ["wait", { wait: Number.NaN }],
    ["wait", { wait: { seconds: Number.NaN } }],
    ["wait", { wait: Infinity }],
    ["wait", { wait: "30 days" }],
    ["wait", { wait: "soon" as never }],
    ["wait", { wait: null as never }],
    ["forever", { forever: 0 }],
    ["count", { count: 0 }],
    ["count", { count: 101 }],
    ["count", { count: 1.5 }],
    ["count", { count: Number.NaN }],
    ["count", { count: Infinity }],
    ["count", { acks: "leader", count: 11 }],
    ["acks", { acks: "none" as never }],
    ["declare", { declare: "yes" as never }],
    ["delays[1]", { delays: [1, -1] }],
    ["password", { password: "secret" as never }],
    ["sasl.username", { sasl: { mechanism: "PLAIN", username: "", password: Redacted.make("secret") } }],
    ["sasl.password", { sasl: { mechanism: "PLAIN", username: "a", password: "secret" as never } }],
    ["tls.ca", { tls: { ca: 1 as never } }],
    ["route", { route: "topic" as never }]
  ]
  for (const [field, options] of wrong) {
    it.effect(`${field} is refused by name: ${JSON.stringify(Object.values(options))}`, () =>
      Effect.gen(function*() {
        const error = yield* Effect.flip(settings.check({ servers, ...options }))
        assert.strictEqual(error._tag, "InvalidSetting")
        assert.strictEqual(error.settings, "MyBroker")
        assert.strictEqual(error.field, field)
        assert.notInclude(error.message, "secret")
      }))
  }

  it.effect("an error says what is expected", () =>
    Effect.gen(function*() {
      const messageOf = (options: Partial<Options>) =>
        Effect.map(Effect.flip(settings.check({ servers, ...options })), (error) => error.message)
      assert.strictEqual(
        yield* messageOf({ count: 101 }),
        "Correct the setting count of MyBroker: Expected a whole number from 1 to 100, not 101"
      )
      assert.strictEqual(
        yield* messageOf({ wait: -1 }),
        "Correct the setting wait of MyBroker: Expected a duration of at least 0 and less than 24 days, " +
          "such as \"5 seconds\" or a number of milliseconds, not -1"
      )
    }))

  it("a definition throws", () => {
    assert.strictEqual(settings.checkUnsafe({ servers }).count, 7)
    assert.throws(() => settings.checkUnsafe({ servers, count: 0 }), Settings.InvalidSetting)
  })
})

describe("the environment", () => {
  it.effect("gives the options that it names, checked as those in code are", () =>
    Effect.gen(function*() {
      const options = yield* fromEnv({
        MY_SERVERS: "one:1, two:2",
        MY_WAIT: "5 millis",
        MY_FOREVER: "Infinity",
        MY_COUNT: "9",
        MY_ACKS: "leader",
        MY_DECLARE: "no",
        MY_DELAYS: "1 second,2 seconds",
        MY_PASSWORD: "secret",
        MY_SASL_MECHANISM: "SCRAM",
        MY_SASL_USERNAME: "alice",
        MY_SASL_PASSWORD: "hush",
        MY_TLS: "true",
        MY_ROUTE: "nowhere"
      })
      const { password, sasl, route, ...rest } = yield* settings.check(options)
      assert.deepStrictEqual(rest, {
        servers: ["one:1", "two:2"],
        wait: 5,
        forever: Infinity,
        count: 9,
        acks: "leader",
        declare: false,
        delays: [1000, 2000],
        tls: true
      })
      assert.strictEqual(password && Redacted.value(password), "secret")
      assert.strictEqual(sasl?.username, "alice")
      assert.strictEqual(sasl && Redacted.value(sasl.password), "hush")
      assert.strictEqual(route("topic"), "topic")
    }))

  it.effect("may leave out what has a default, and groups", () =>
    Effect.gen(function*() {
      const { route: _, ...rest } = yield* settings.check(yield* fromEnv({ MY_SERVERS: "one:1", MY_COUNT: "" }))
      const { route: __, ...defaults } = yield* settings.check({ servers: ["one:1"] })
      assert.deepStrictEqual(JSON.stringify(rest), JSON.stringify(defaults))
    }))

  it.effect("details of a group stand for its switch, and false turns them off", () =>
    Effect.gen(function*() {
      const env = { MY_SERVERS: "one:1", MY_TLS_CA: "pem" }
      assert.deepStrictEqual((yield* fromEnv(env)).tls, { ca: "pem" })
      assert.deepStrictEqual((yield* fromEnv({ ...env, MY_TLS: "on" })).tls, { ca: "pem" })
      assert.deepStrictEqual((yield* fromEnv({ ...env, MY_TLS: "off" })).tls, false)
    }))

  it.effect("is read below the path of a nested provider, and by constantCase as well", () =>
    Effect.gen(function*() {
      const provider = ConfigProvider.fromEnvRecord({ APP_MY_SERVERS: "one:1" }).pipe(ConfigProvider.nested("APP"))
      assert.deepStrictEqual((yield* settings.config.parse(provider)).servers, ["one:1"])
      const cased = ConfigProvider.fromEnvRecord({ MY_SERVERS: "one:1" }).pipe(ConfigProvider.constantCase)
      assert.deepStrictEqual((yield* settings.config.parse(cased)).servers, ["one:1"])
    }))

  const wrong: ReadonlyArray<readonly [string, Record<string, string>]> = [
    ["MY_SERVERS", {}],
    ["MY_SERVERS", { MY_SERVERS: "one:1,two" }],
    ["MY_WAIT", { MY_WAIT: "5" }],
    ["MY_WAIT", { MY_WAIT: "-5 millis" }],
    ["MY_COUNT", { MY_COUNT: "many" }],
    ["MY_COUNT", { MY_COUNT: "NaN" }],
    ["MY_ACKS", { MY_ACKS: "none" }],
    ["MY_DECLARE", { MY_DECLARE: "perhaps" }],
    ["MY_DELAYS", { MY_DELAYS: "1 second,never" }],
    ["MY_SASL_USERNAME", { MY_SASL_MECHANISM: "PLAIN", MY_SASL_PASSWORD: "secret" }]
  ]
  for (const [variable, env] of wrong) {
    it.effect(`${variable} is refused by name: ${JSON.stringify(env)}`, () =>
      Effect.gen(function*() {
        const error = yield* Effect.flip(fromEnv(variable === "MY_SERVERS" ? env : { MY_SERVERS: "one:1", ...env }))
        assert.instanceOf(error, Config.ConfigError)
        assert.include(error.message, variable)
        assert.notInclude(error.message, "secret")
      }))
  }
})

it("rows list every option with its variable and default", () => {
  const rows = settings.rows.map((row) => [row.field, row.variable, row.required, row.default])
  assert.deepStrictEqual(rows.slice(0, 4), [
    ["servers", "MY_SERVERS", true, undefined],
    ["wait", "MY_WAIT", false, "5 seconds"],
    ["forever", "MY_FOREVER", false, "Infinity"],
    ["count", "MY_COUNT", false, 7]
  ])
  assert.deepStrictEqual(rows.slice(7, -1), [
    ["password", "MY_PASSWORD", false, undefined],
    ["sasl.mechanism", "MY_SASL_MECHANISM", true, undefined],
    ["sasl.username", "MY_SASL_USERNAME", true, undefined],
    ["sasl.password", "MY_SASL_PASSWORD", true, undefined],
    ["tls", "MY_TLS", false, undefined],
    ["tls.ca", "MY_TLS_CA", false, undefined]
  ])
  assert.strictEqual(rows.at(-1)?.[1], undefined)
})
