/** What the types of `Settings` promise. Checked by `tsc`, never run. */
// @effect-diagnostics floatingEffect:off
import { Settings } from "@event-flow/core"
import { type Config, type Duration, type Effect, type Redacted, Schema } from "effect"
import { check, type Equals } from "./support.ts"

const fields = {
  url: Schema.String,
  wait: Settings.withDefault(Settings.duration(), "5 seconds"),
  count: Settings.withDefault(Settings.wholeNumber(), 7),
  acks: Settings.withDefault(Schema.Literals(["all", "leader"]), "all"),
  password: Schema.optional(Schema.Redacted(Schema.String)),
  route: Schema.optional(Settings.code<(topic: string) => string>())
}
const settings = Settings.make("MyBroker", { prefix: "MY", schema: Schema.Struct(fields) })

// --- options: what has a default may be left out ---

interface Options {
  readonly url: string
  readonly wait?: Duration.Input | undefined
  readonly count?: number | undefined
  readonly acks?: "all" | "leader" | undefined
  readonly password?: Redacted.Redacted<string> | undefined
  readonly route?: ((topic: string) => string) | undefined
}
check<Equals<Schema.Struct.Encoded<typeof fields>, { [K in keyof Options]: Options[K] }>>()
check<Equals<typeof settings.config, Config.Config<Schema.Struct.Encoded<typeof fields>>>>()

// --- checked: there is a value, and durations are milliseconds ---

interface Checked {
  readonly url: string
  readonly wait: number
  readonly count: number
  readonly acks: "all" | "leader"
  readonly password?: Redacted.Redacted<string> | undefined
  readonly route?: ((topic: string) => string) | undefined
}
const checked = settings.check({ url: "u" })
check<
  Equals<typeof checked extends Effect.Effect<infer A, infer _E> ? A : never, { [K in keyof Checked]: Checked[K] }>
>()
check<Equals<typeof checked extends Effect.Effect<infer _A, infer E> ? E : never, Settings.InvalidSetting>>()

// @ts-expect-error: the server is required
settings.check({})
// @ts-expect-error: no duration
settings.check({ url: "u", wait: "soon" })
// @ts-expect-error: none of them
settings.check({ url: "u", acks: "none" })
// @ts-expect-error: a default must be one of them
Settings.withDefault(Schema.Literals(["all", "leader"]), "none")
// @ts-expect-error: a schema that needs services cannot be read from the environment
Settings.make("X", { prefix: "X", schema: Schema.Struct({ a: Schema.String.pipe(needing) }) })

declare const needing: <S extends Schema.Top>(schema: S) => Schema.middlewareDecoding<S, "Service">
