/**
 * The settings of a layer, written once. For authors of layers.
 *
 * Settings are the fields of a `Schema.Struct`: each has its checks and, unless
 * it is required or `Schema.optional`, a default. Its description is its
 * docstring, which editors show with the option. From the struct come the type
 * of the options, the checked values with all defaults, a `Config` that reads
 * them from the environment, one error for a wrong option, and the rows of a
 * table for the documentation.
 *
 * **Example** (The settings of a layer)
 *
 * ```ts
 * import { Broker, Settings } from "@event-flow/core"
 * import { Config, Effect, Layer, Schema } from "effect"
 *
 * // Each field has a docstring, which ends with its default
 * const fields = {
 *   url: Schema.String,
 *   connectTimeout: Settings.withDefault(Settings.duration(), "5 seconds"),
 *   channels: Settings.withDefault(Settings.wholeNumber({ maximum: 100 }), 4)
 * }
 * export interface Options extends Schema.Struct.Encoded<typeof fields> {}
 * export const settings = Settings.make("MyBroker", { prefix: "MY", schema: Schema.Struct(fields) })
 *
 * export const layer = (options: Options): Layer.Layer<Broker.Broker, Settings.InvalidSetting> =>
 *   Layer.effect(Broker.Broker, Effect.map(settings.check(options), ({ url }) =>
 *     Broker.Broker.of({ name: "my", publish: () => Effect.logInfo(`sent to ${url}`) })))
 *
 * export const layerConfig = (
 *   options: Config.Wrap<Options>
 * ): Layer.Layer<Broker.Broker, Settings.InvalidSetting | Config.ConfigError> =>
 *   Layer.unwrap(Effect.map(Config.unwrap(options), layer))
 *
 * // Reads MY_URL, MY_CONNECT_TIMEOUT and MY_CHANNELS
 * export const layerFromEnv = layerConfig(settings.config)
 * ```
 *
 * @stability unstable
 * @since 0.1.0
 */
import * as Config from "effect/Config"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Predicate from "effect/Predicate"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import * as SchemaAST from "effect/SchemaAST"
import * as SchemaGetter from "effect/SchemaGetter"
import * as SchemaIssue from "effect/SchemaIssue"
import * as Str from "effect/String"

/**
 * An option of a layer or of a definition is wrong. `settings` is what it
 * belongs to, such as `KafkaBroker`; `field` is the option, such as `linger` or
 * `sasl.username`; `detail` says what is expected.
 *
 * @stability unstable
 * @category errors
 * @since 0.1.0
 */
export class InvalidSetting extends Schema.TaggedError<InvalidSetting>("@event-flow/core/Settings/InvalidSetting")(
  "InvalidSetting",
  { settings: Schema.String, field: Schema.String, detail: Schema.String }
) {
  override get message(): string {
    return `Correct the setting ${this.field} of ${this.settings}: ${this.detail}`
  }
}

/**
 * Fields of settings.
 *
 * @stability unstable
 * @category models
 * @since 0.1.0
 */
export type Fields = { readonly [name: string]: Schema.ConstraintCodec<unknown, unknown> }

/**
 * One row of a table of settings.
 *
 * @stability unstable
 * @category models
 * @since 0.1.0
 */
export interface Row {
  /** The option, such as `linger` or `sasl.username`. */
  readonly field: string
  /** The environment variable that `config` reads, unless the option can be given in code only. */
  readonly variable: string | undefined
  readonly required: boolean
  /** The default as the author of the settings wrote it. */
  readonly default: unknown
}

/**
 * The settings of a layer.
 *
 * @stability unstable
 * @category models
 * @since 0.1.0
 */
export interface Settings<F extends Fields> {
  /** What the settings belong to, for errors. */
  readonly name: string
  readonly schema: Schema.Struct<F>
  /** Checks options and fills in defaults. */
  readonly check: (options: Schema.Struct.Encoded<F>) => Effect.Effect<Schema.Struct.Type<F>, InvalidSetting>
  /** The same, for definitions: throws `InvalidSetting`. */
  readonly checkUnsafe: (options: Schema.Struct.Encoded<F>) => Schema.Struct.Type<F>
  /** The error for what a schema cannot check. */
  readonly invalid: (field: string, detail: string) => InvalidSetting
  /**
   * Reads options from a `ConfigProvider`. The name of a field is the prefix and
   * the field in capitals, such as `KAFKA_SASL_USERNAME`; empty variables count as
   * absent, and lists are separated by commas.
   */
  readonly config: Config.Config<Schema.Struct.Encoded<F>>
  readonly rows: ReadonlyArray<Row>
}

/**
 * Makes settings from a struct. Checks of several fields belong to the struct:
 * `schema.check(Schema.makeFilter((s) => … ? undefined : { path: ["field"], issue: "…" }))`.
 *
 * @stability unstable
 * @category constructors
 * @since 0.1.0
 */
export const make = <const F extends Fields>(name: string, options: {
  /** What the names of environment variables begin with, without the underscore. */
  readonly prefix: string
  readonly schema: Schema.Struct<F>
}): Settings<F> => {
  const { prefix, schema } = options
  const decode = Schema.decodeUnknownResult(schema)
  const check = (input: Schema.Struct.Encoded<F>) =>
    Result.mapError(decode(input), (error) => fromIssue(name, error.issue, input))
  return {
    name,
    schema,
    check: (input) => Effect.suspend(() => Effect.fromResult(check(input))),
    checkUnsafe: (input) => Result.getOrThrow(check(input)),
    invalid: (field, detail) => new InvalidSetting({ settings: name, field, detail }),
    // Each field is read by its own schema: the record has the types of the fields
    config: readGroup(schema.ast, prefix) as Config.Config<Schema.Struct.Encoded<F>>,
    rows: rowsOf(schema.ast, prefix, "")
  }
}

/**
 * A field that may be left out. The default is written as the option is.
 *
 * @stability unstable
 * @category fields
 * @since 0.1.0
 */
export const withDefault = <S extends Schema.Top>(schema: S, value: S["Encoded"]): Schema.withDecodingDefault<S> =>
  schema.pipe(Schema.withDecodingDefault<S>(Effect.succeed(value))).annotate({ [defaultKey]: value })

/**
 * A `Duration.Input`, checked and turned into milliseconds. In the environment it
 * has a unit: `"5 seconds"`. NaN, less than the minimum, and what is longer than
 * timers can wait (2^31 milliseconds) are refused.
 *
 * @stability unstable
 * @category fields
 * @since 0.1.0
 */
export const duration = (options: {
  /** Default: 1 millisecond. */
  readonly minimum?: Duration.Input | undefined
  /** Accept `Infinity`. Default: false. */
  readonly infinite?: boolean | undefined
} = {}): Schema.decodeTo<Schema.Number, Schema.declare<Duration.Input>> => {
  const minimum = Duration.fromInputUnsafe(options.minimum ?? 1)
  const infinite = options.infinite === true
  const expected = `a duration of at least ${Duration.format(minimum)} ${
    infinite ? "or Infinity" : "and less than 24 days"
  }, such as "5 seconds" or a number of milliseconds`
  return DurationInput.pipe(Schema.decodeTo(Schema.Number, {
    decode: SchemaGetter.transformEffect((input: Duration.Input, parse) => {
      const millis = millisOf(input)
      return millis >= Duration.toMillis(minimum) && (millis < 2 ** 31 || infinite && millis === Infinity)
        ? Effect.succeed(millis)
        : Effect.fail(new SchemaIssue.InvalidValue({ expected }, input, parse))
    }),
    encode: SchemaGetter.transform((millis: number): Duration.Input => millis)
  }))
}

/**
 * A whole number.
 *
 * @stability unstable
 * @category fields
 * @since 0.1.0
 */
export const wholeNumber = (options: {
  /** Default: 1. */
  readonly minimum?: number | undefined
  /** Default: the largest safe integer. */
  readonly maximum?: number | undefined
} = {}): Schema.Number => {
  const { minimum = 1, maximum = Number.MAX_SAFE_INTEGER } = options
  return Schema.Number.check(Schema.makeFilter(
    (value) => Number.isSafeInteger(value) && value >= minimum && value <= maximum,
    { expected: `a whole number from ${minimum}${options.maximum === undefined ? "" : ` to ${maximum}`}` }
  ))
}

/**
 * A function. It can be given in code only; `config` leaves it out.
 *
 * @stability unstable
 * @category fields
 * @since 0.1.0
 */
export const code = <F extends (...args: never) => unknown>(): Schema.declare<F> =>
  Schema.declare((value): value is F => Predicate.isFunction(value), { expected: "a function", [codeKey]: true })

// --- internal ---

const defaultKey = "@event-flow/core/Settings/default"
const codeKey = "@event-flow/core/Settings/code"

/** Whatever was given: `duration` checks it. */
const isAny = (input: unknown): input is Duration.Input => input !== undefined

const DurationInput: Schema.declare<Duration.Input> = Schema.declare(isAny, {
  toCodecStringTree: () =>
    Schema.link<Duration.Input>()(Schema.String, {
      // Not any string is one: `duration` refuses the others
      decode: SchemaGetter.transform((text: string) => text as Duration.Input),
      encode: SchemaGetter.transform(String)
    })
})

const millisOf = (input: Duration.Input): number => {
  // Effect takes them for zero
  const parts = typeof input === "object" && input !== null ? Object.values(input) : [input]
  if (parts.some(Number.isNaN)) return Number.NaN
  return Option.match(Duration.fromInput(input), { onNone: () => Number.NaN, onSome: Duration.toMillis })
}

const fromIssue = (settings: string, issue: SchemaIssue.Issue, input: unknown): InvalidSetting => {
  const { message, path = [] } = SchemaIssue.makeFormatterStandardSchemaV1()(issue).issues[0]!
  const keys = path.map((segment) => typeof segment === "object" ? segment.key : segment)
  const field = keys.map((key) => typeof key === "number" ? `[${key}]` : `.${String(key)}`).join("").slice(1)
  const given = keys.reduce<unknown>((value, key) => Predicate.hasProperty(value, key) ? value[key] : undefined, input)
  // A string could be a secret
  return new InvalidSetting({
    settings,
    field,
    detail: typeof given === "number" ? `${message}, not ${given}` : message
  })
}

/** What a field is when it is given. */
const present = (ast: SchemaAST.AST): SchemaAST.AST =>
  SchemaAST.isUnion(ast) && ast.types.length === 2 && SchemaAST.isUndefined(ast.types[1]!) ? ast.types[0]! : ast

/** The fields of a group, and whether a boolean may be given instead. */
const groupOf = (ast: SchemaAST.AST): { readonly group: SchemaAST.Objects; readonly orSwitch: boolean } | undefined => {
  const type = present(ast)
  if (SchemaAST.isObjects(type)) return { group: type, orSwitch: false }
  const group = SchemaAST.isUnion(type) ? type.types.find(SchemaAST.isObjects) : undefined
  return group === undefined ? undefined : { group, orSwitch: true }
}

const isRequired = (ast: SchemaAST.AST): boolean => !SchemaAST.isOptional(SchemaAST.toEncoded(ast))

const isCode = (ast: SchemaAST.AST): boolean => SchemaAST.resolve(present(ast))?.[codeKey] === true

const namesOf = (group: SchemaAST.Objects, variable: string) =>
  group.propertySignatures.map(({ name, type }) => ({
    name: String(name),
    type,
    variable: `${variable}_${Str.configCase(String(name))}`
  }))

const readGroup = (group: SchemaAST.Objects, prefix: string): Config.Config<unknown> =>
  Config.all(Object.fromEntries(
    namesOf(group, prefix).map(({ name, type, variable }) => [name, read(type, variable)])
  ))

const read = (ast: SchemaAST.AST, variable: string): Config.Config<unknown> => {
  const found = groupOf(ast)
  if (found !== undefined) return readOptionalGroup(found, variable)
  if (isCode(ast)) return Config.succeed(undefined)
  return isRequired(ast) ? readValue(ast, variable) : Config.withDefault(readValue(ast, variable), undefined)
}

/** Without any of its variables a group is absent; with some of them, one that it requires must not be missing. */
const readOptionalGroup = (
  { group, orSwitch }: { readonly group: SchemaAST.Objects; readonly orSwitch: boolean },
  variable: string
): Config.Config<unknown> => {
  const given = Config.all(namesOf(group, variable).map((field) => Config.option(Config.String(field.variable))))
  const whole = Config.flatMap(
    given,
    (values): Config.Config<unknown> =>
      values.some(Option.isSome) ? readGroup(group, variable) : Config.succeed(undefined)
  )
  return orSwitch
    ? Config.flatMap(
      Config.option(Config.Boolean(variable)),
      (on) =>
        Option.contains(on, false)
          ? Config.succeed(false)
          : Config.map(whole, (value) => value ?? Option.getOrUndefined(on))
    )
    : whole
}

/** The option as it would be given in code. */
const readValue = (ast: SchemaAST.AST, variable: string): Config.Config<unknown> => {
  const schema = Schema.make<Schema.Codec<unknown, unknown>>(ast)
  const type = present(ast)
  const config: Config.Config<unknown> = SchemaAST.isBoolean(type)
    ? Config.Boolean(variable)
    : SchemaAST.isArrays(type)
    ? Config.Array(Schema.make<Schema.Codec<unknown, unknown>>(type.rest[0]!), variable)
    : Config.schema(schema, variable)
  const encode = Schema.encodeUnknownEffect(schema)
  return Config.mapEffect(
    config,
    (value) => Effect.mapError(encode(value), (error) => new Config.ConfigError(error))
  )
}

const rowsOf = (group: SchemaAST.Objects, prefix: string, path: string): ReadonlyArray<Row> =>
  namesOf(group, prefix).flatMap(({ name, type, variable }) => {
    const found = groupOf(type)
    const row: Row = {
      field: path + name,
      variable: isCode(type) ? undefined : variable,
      required: isRequired(type),
      default: SchemaAST.resolve(type)?.[defaultKey]
    }
    return found === undefined
      ? [row]
      : [...(found.orSwitch ? [row] : []), ...rowsOf(found.group, variable, `${path}${name}.`)]
  })
