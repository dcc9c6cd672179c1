/**
 * Constructors skip the schema pass for input that a plain check proves valid. What they accept, what they make and
 * what they say is wrong must be what a plain `Schema.TaggedClass` accepts, makes and says.
 */
import { assert, describe, it } from "@effect/vitest"
import { Arbitrary, DateTime, Effect, Equal, Exit, Option, Schema, SchemaIssue, SchemaTransformation } from "effect"
import { execFile } from "node:child_process"
import { fileURLToPath } from "node:url"
import { make } from "../src/internal/definition/schemaClass.ts"

type Constructor = new(input?: unknown, options?: unknown) => object

/** Ours and effect's, of the same fields. */
const pair = (fields: Schema.Struct.Fields): { readonly ours: Constructor; readonly plain: Constructor } => ({
  ours: make({ tag: "Tested", fields, statics: {}, prototype: {} }) as Constructor,
  plain: Schema.TaggedClass<object>()("Tested", fields) as unknown as Constructor
})

const formatIssue = SchemaIssue.makeFormatterDefault()

const attempt = (Class: Constructor, input: unknown, options?: unknown) => {
  try {
    return { instance: new Class(input, options) }
  } catch (error) {
    const { cause, message } = error as Error
    return { message: `${message}: ${formatIssue(cause as SchemaIssue.Issue)}` }
  }
}

const compare = (fields: Schema.Struct.Fields, input: unknown, options?: unknown): "accepted" | "refused" => {
  const { ours, plain } = pair(fields)
  const actual = attempt(ours, input, options)
  const expected = attempt(plain, input, options)
  assert.strictEqual(actual.message, expected.message)
  if (actual.instance === undefined || expected.instance === undefined) return "refused"
  assert.deepStrictEqual({ ...actual.instance }, { ...expected.instance })
  assert.deepStrictEqual(Object.keys(actual.instance), Object.keys(expected.instance))
  assert.instanceOf(actual.instance, ours)
  assert.strictEqual(Object.getPrototypeOf(actual.instance), ours.prototype)
  assert.isTrue(Equal.equals(actual.instance, new ours(input, options)))
  return "accepted"
}

const Positive = Schema.Int.check(Schema.isGreaterThan(0, { message: "must be positive" }))
const UserId = Schema.String.pipe(Schema.brand("UserId"))
const Nested = Schema.Struct({ city: Schema.String, floor: Schema.optionalKey(Schema.Int) })
class Inner extends Schema.Class<Inner>("Inner")({ n: Schema.Int }) {}

const trimmed = Schema.String.pipe(
  Schema.decodeTo(Schema.String, SchemaTransformation.transform({ decode: (s) => s.trim(), encode: (s) => s }))
)

/** Every kind of field, those of the fast path and those that go through the Schema. */
const kinds: Record<string, Schema.Struct.Fields[string]> = {
  string: Schema.String,
  number: Schema.Number,
  finite: Schema.Finite,
  int: Schema.Int,
  boolean: Schema.Boolean,
  bigint: Schema.BigInt,
  null: Schema.Null,
  undefined: Schema.Undefined,
  literal: Schema.Literal("a"),
  literals: Schema.Literals(["a", 1, true]),
  union: Schema.Union([Schema.String, Schema.Int]),
  "union with checks": Schema.Union([Schema.String, Schema.Number]).check(
    Schema.makeFilter((value) => value !== "no" && value !== 0)
  ),
  "nullable union": Schema.NullOr(Schema.Literals(["x", "y"])),
  "exclusive union": Schema.Union([Schema.String, Schema.String.check(Schema.isMinLength(2))], { mode: "oneOf" }),
  "undefined or": Schema.UndefinedOr(Schema.String),
  optional: Schema.optional(Schema.String),
  optionalKey: Schema.optionalKey(Schema.String),
  "optional key of a check": Schema.optionalKey(Positive),
  mutable: Schema.mutableKey(Schema.String),
  default: Schema.String.pipe(Schema.withConstructorDefault(Effect.succeed("default"))),
  "optional default": Schema.optionalKey(Schema.Int).pipe(Schema.withConstructorDefault(Effect.succeed(7))),
  checks: Positive,
  "several checks": Schema.String.check(Schema.isMinLength(2), Schema.isMaxLength(3), Schema.isPattern(/^a/)),
  branded: UserId,
  "date from string": Schema.DateFromString,
  "number from string": Schema.NumberFromString,
  trimmed,
  template: Schema.TemplateLiteral(["a", Schema.String]),
  date: Schema.Date,
  nested: Nested,
  class: Inner,
  array: Schema.Array(Schema.Int),
  tuple: Schema.Tuple([Schema.String, Schema.Int]),
  record: Schema.Record(Schema.String, Schema.Int),
  option: Schema.Option(Schema.Int),
  instant: Schema.DateTimeUtc,
  unknown: Schema.Unknown,
  symbol: Schema.Symbol
}

/** Values that are right for some kind and wrong for others. */
const values: ReadonlyArray<unknown> = [
  "",
  "a",
  "ab",
  "abcd",
  " a ",
  "no",
  "x",
  "1",
  0,
  -0,
  1,
  1.5,
  -1,
  NaN,
  Infinity,
  1n,
  true,
  false,
  null,
  undefined,
  {},
  [],
  [1],
  [1, "2"],
  ["a", 1],
  { city: "Bern" },
  { city: "Bern", floor: 1.5 },
  { a: 1 },
  new Inner({ n: 1 }),
  new Date(0),
  new Date(NaN),
  Option.some(1),
  Option.none(),
  DateTime.makeUnsafe(0),
  Symbol.iterator,
  () => 1,
  new String("a")
]

describe("constructors accept, make and say what those of Schema.TaggedClass do", () => {
  for (const [name, field] of Object.entries(kinds)) {
    it(`field kind: ${name}`, () => {
      const outcomes = new Set(values.map((value) => compare({ field }, { field: value })))
      for (const input of [{}, undefined, null, 1, "text", [], () => 1, { other: 1 }]) compare({ field }, input)
      // The list of values says something about each kind
      assert.isTrue(outcomes.has("accepted"))
      if (name !== "unknown") assert.isTrue(outcomes.has("refused"))
    })

    it.effect(`field kind, valid values: ${name}`, () =>
      Effect.gen(function*() {
        const samples = yield* Arbitrary.sampleEffect(
          Arbitrary.schema(Schema.toType(field as Schema.Schema<unknown>)),
          {
            count: 50,
            size: 8,
            seed: 1
          }
        )
        for (const value of samples) assert.strictEqual(compare({ field }, { field: value }), "accepted")
      }))
  }

  const FieldName = Schema.Literals(["id", "a b", "\"quoted\"", "constructor", "toString", "0", "", "${x}", "_private"])
  const pick = Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 1000 }))
  const Case = Schema.Array(Schema.Struct({ name: FieldName, kind: pick, value: pick, isGiven: Schema.Boolean })).check(
    Schema.isMinLength(1),
    Schema.isMaxLength(6)
  )
  const names = Object.keys(kinds)

  it.prop("random fields with random values, given or not", [Case, Schema.Boolean], ([fieldCases, isExcessive]) => {
    const fields: Record<string, Schema.Struct.Fields[string]> = {}
    const input: Record<string, unknown> = isExcessive ? { excess: 1 } : {}
    for (const { isGiven, kind, name, value } of fieldCases) {
      fields[name] = kinds[names[kind % names.length]!]!
      if (isGiven) input[name] = values[value % values.length]
    }
    compare(fields, input)
  }, { arbitrary: { runs: 2000, size: 6 } })

  it.prop("valid values for all fields at once", [Schema.Struct(kinds as Record<string, Schema.Codec<unknown>>)], ([
    input
  ]) => {
    assert.strictEqual(compare(kinds, input), "accepted")
  }, { arbitrary: { runs: 50, size: 4 } })

  const fields = { a: Schema.String, b: Schema.optionalKey(Schema.Int) }

  it("a tag in the input", () => {
    compare(fields, { _tag: "Tested", a: "x" })
    compare(fields, { _tag: "Other", a: "x" })
    compare(fields, { _tag: undefined, a: "x" })
  })

  it("input that is no plain object", () => {
    const { ours, plain } = pair(fields)
    compare(fields, new ours({ a: "x", b: 1 }))
    compare(fields, new plain({ a: "x", b: 1 }))
    compare(fields, Object.create(null, { a: { value: "x", enumerable: true } }))
    compare(fields, Object.create({ a: "inherited" }))
    compare(fields, Object.create({ b: 1 }, { a: { value: "x", enumerable: true } }))
    compare(fields, Object.defineProperty({}, "a", { value: "hidden", enumerable: false }))
    compare(fields, {
      get a() {
        return "computed"
      }
    })
    compare({ b: Schema.optionalKey(Schema.Int) }, [])
    compare({}, {})
    compare({}, undefined)
    compare({}, [])
    compare({}, "text")
  })

  it("options of the constructor", () => {
    compare(fields, { a: 1 }, { disableChecks: true })
    compare({ a: Positive }, { a: -1 }, { disableChecks: true })
    compare({ a: Positive }, { a: -1 }, {})
    compare(fields, { a: "x" }, undefined)
    compare(fields, { a: 1, b: "x" }, { parseOptions: { errors: "all" } })
  })

  it("symbols and __proto__ as names", () => {
    const symbol = Symbol.for("field")
    compare({ [symbol]: Schema.String }, { [symbol]: "x" })
    compare({ [symbol]: Schema.String }, {})
    const proto = Object.fromEntries([["__proto__", Schema.String]])
    compare(proto, Object.fromEntries([["__proto__", "x"]]))
    compare(proto, {})
  })

  it("the input is not kept", () => {
    const { ours } = pair(fields)
    const input = { a: "x" }
    const instance = new ours(input)
    input.a = "changed"
    assert.deepStrictEqual({ ...instance }, { _tag: "Tested", a: "x" })
  })

  it("subclasses with fields and methods of their own", () => {
    class Sub extends pair(fields).ours {
      readonly extra = 1
      get upper(): string {
        return (this as unknown as { a: string }).a.toUpperCase()
      }
    }
    const quick = new Sub({ a: "x" })
    const slow = new Sub({ a: "x" }, { disableChecks: true })
    for (const instance of [quick, slow]) {
      assert.instanceOf(instance, Sub)
      assert.strictEqual(instance.extra, 1)
      assert.strictEqual(instance.upper, "X")
      assert.deepStrictEqual({ ...instance }, { _tag: "Tested", a: "x", extra: 1 })
    }
  })

  it.effect("instances of either path decode and encode alike", () =>
    Effect.gen(function*() {
      const Class = pair({ a: Schema.String, at: Schema.DateFromString }).ours as unknown as Schema.Codec<object>
      const codec = Schema.toCodecJson(Class)
      const made = new (Class as unknown as Constructor)({ a: "x", at: new Date(0) })
      const json = yield* Schema.encodeEffect(codec)(made)
      assert.deepStrictEqual(json, { _tag: "Tested", a: "x", at: new Date(0).toISOString() })
      const decoded = yield* Schema.decodeUnknownEffect(codec)(json)
      assert.isTrue(Equal.equals(decoded, made))
      assert.isTrue(Exit.isFailure(yield* Effect.exit(Schema.decodeUnknownEffect(codec)({ ...json as object, a: 1 }))))
    }))
})

describe("where code generation is forbidden", () => {
  // A content security policy, or a worker: `new Function` throws
  it("the same holds", { timeout: 60_000 }, async () => {
    const script = fileURLToPath(new URL("./fixtures/noCodeGeneration.ts", import.meta.url))
    const { stderr, stdout } = await new Promise<{ readonly stdout: string; readonly stderr: string }>((resolve) =>
      execFile(
        process.execPath,
        ["--disallow-code-generation-from-strings", "--conditions=@event-flow/source", script],
        (_, stdout, stderr) => resolve({ stdout, stderr })
      )
    )
    assert.strictEqual(stdout.trim(), "as with code generation", stderr)
  })
})
