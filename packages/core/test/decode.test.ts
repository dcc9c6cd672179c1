/**
 * A body is decoded without a schema pass where the Schema would take it as it is. What is decoded, and what is said to
 * be wrong, must be what the Schema decodes and says.
 */
import { afterAll, assert, describe, it } from "@effect/vitest"
import { Message, MessageCodec, NotificationEvent } from "@event-flow/core"
import { Cause, Effect, Exit, Option, Schema, SchemaTransformation } from "effect"

const kinds: Record<string, Schema.Codec<unknown, unknown>> = {
  string: Schema.String,
  number: Schema.Number,
  finite: Schema.Finite,
  int: Schema.Int,
  boolean: Schema.Boolean,
  null: Schema.Null,
  literal: Schema.Literal("a"),
  literals: Schema.Literals(["a", 1, true]),
  "literal NaN": Schema.Literals(["NaN", "a"]),
  union: Schema.Union([Schema.String, Schema.Int]),
  "union of numbers first": Schema.Union([Schema.Number, Schema.String]),
  nullable: Schema.NullOr(Schema.Number),
  "exclusive union": Schema.Union([Schema.String, Schema.Literal("a")], { mode: "oneOf" }),
  checks: Schema.Int.check(Schema.isGreaterThan(0, { message: "must be positive" })),
  "several checks": Schema.String.check(Schema.isMinLength(2), Schema.isPattern(/^a/)),
  branded: Schema.String.pipe(Schema.brand("UserId")),
  optional: Schema.optional(Schema.String),
  optionalKey: Schema.optionalKey(Schema.String),
  "optional key of a check": Schema.optionalKey(Schema.Int.check(Schema.isGreaterThan(0))),
  mutable: Schema.mutableKey(Schema.String),
  "undefined or": Schema.UndefinedOr(Schema.String),
  "constructor default": Schema.String.pipe(Schema.withConstructorDefault(Effect.succeed("default"))),
  "decoding default": Schema.String.pipe(Schema.withDecodingDefaultKey(Effect.succeed("default"))),
  "date from string": Schema.DateFromString,
  "number from string": Schema.NumberFromString,
  bigint: Schema.BigInt,
  date: Schema.Date,
  trimmed: Schema.String.pipe(
    Schema.decodeTo(Schema.String, SchemaTransformation.transform({ decode: (s) => s.trim(), encode: (s) => s }))
  ),
  nested: Schema.Struct({ city: Schema.String }),
  array: Schema.Array(Schema.Int),
  unknown: Schema.Unknown
}

/** JSON as text: it has numbers that JavaScript would not write. */
const texts: ReadonlyArray<string> = [
  "\"\"",
  "\"a\"",
  "\"ab\"",
  "\" a \"",
  "\"NaN\"",
  "\"Infinity\"",
  "\"-Infinity\"",
  "\"1\"",
  "\"2020-01-01T00:00:00.000Z\"",
  "\"\\ud83d\\ude00 ü \\u0000\"",
  "0",
  "-0",
  "1",
  "-1",
  "1.5",
  "1e999",
  "-1e999",
  "12345678901234567890",
  "true",
  "false",
  "null",
  "{}",
  "[]",
  "[1]",
  "{\"city\":\"Bern\"}"
]

/** Its fields are as the test says, whatever their types. */
const define = (fields: Record<string, Schema.Struct.Fields[string]>): NotificationEvent.AnyClass =>
  class Tested extends NotificationEvent.Class<Tested>()(
    "Tested",
    fields as unknown as Record<string, Schema.Codec<unknown>>,
    { topic: "t" }
  ) {} as unknown as NotificationEvent.AnyClass

/** By the Schema alone. */
const bySchema = (
  Event: NotificationEvent.AnyClass,
  body: string
): { readonly event: object } | { readonly error: string } => {
  const json: unknown = JSON.parse(body)
  const isRecord = typeof json === "object" && json !== null && !Array.isArray(json)
  const codec = Schema.toCodecJson(Event as unknown as Schema.Codec<object>)
  const exit = Schema.decodeUnknownExit(codec)(isRecord ? { ...json, _tag: Event.tag } : json)
  return Exit.isSuccess(exit) ? { event: exit.value } : { error: (Cause.squash(exit.cause) as Error).message }
}

const codec = MessageCodec.cloudEvents()

/** What is decoded without an effect to run; undefined: nothing is. */
const decodedAtOnce = (
  message: Message.Message,
  known: ReadonlyMap<string, NotificationEvent.AnyClass>
): object | undefined => {
  const decoding = codec.decode(message, known)
  // What is not done yet is an Effect, and no Exit
  return Exit.isExit(decoding) ? Option.getOrUndefined(Exit.getSuccess(decoding as Exit.Exit<object>)) : undefined
}

const assertSame = (actual: object, expected: object): void => {
  assert.deepStrictEqual(actual, expected)
  assert.strictEqual(Object.getPrototypeOf(actual), Object.getPrototypeOf(expected))
  // Zeros too, and the order of the keys
  for (const key of Reflect.ownKeys(expected)) {
    const name = key as keyof object
    assert.isTrue(Object.is(actual[name], expected[name]) || typeof expected[name] === "object", String(key))
  }
  assert.deepStrictEqual(Reflect.ownKeys(actual), Reflect.ownKeys(expected))
}

/** Whether the event was decoded, and whether that was at once. */
const compare = (
  Event: NotificationEvent.AnyClass,
  body: string
): { readonly isDecoded: boolean; readonly isQuick: boolean } => {
  const known = new Map([[Event.tag, Event]])
  const message = Message.make({
    topic: "t",
    attributes: { id: "1", type: MessageCodec.typeOf(Event) },
    body: new TextEncoder().encode(body)
  })
  const expected = bySchema(Event, body)
  const exit = Effect.runSyncExit(codec.decode(message, known))
  const quick = decodedAtOnce(message, known)
  if ("event" in expected) {
    assert.isTrue(Exit.isSuccess(exit))
    assertSame((exit as Exit.Success<object>).value, expected.event)
    if (quick !== undefined) assertSame(quick, expected.event)
  } else {
    const error = Exit.isFailure(exit) ? Cause.squash(exit.cause) : undefined
    assert.instanceOf(error, MessageCodec.DecodeError)
    assert.deepStrictEqual([error.reason, error.detail], ["InvalidBody", expected.error])
    assert.isUndefined(quick)
  }
  return { isDecoded: "event" in expected, isQuick: quick !== undefined }
}

describe("a body is decoded as its Schema decodes it", () => {
  const slow = [
    "exclusive union",
    "optional",
    "undefined or",
    "decoding default",
    "date from string",
    "number from string",
    "bigint",
    "date",
    "trimmed",
    "nested",
    "array",
    "unknown"
  ]
  const quick = Object.keys(kinds).filter((name) => !slow.includes(name))

  for (const [name, kind] of Object.entries(kinds)) {
    it(`field kind: ${name}`, () => {
      const Event = define({ field: kind })
      const outcomes = [...texts.map((text) => `{"field":${text}}`), "{}", "{\"other\":1}", "[]", "1", "null", "\"x\""]
        .map((body) => compare(Event, body))
      // The list of bodies says something about each kind
      assert.isTrue(outcomes.some(({ isDecoded }) => isDecoded))
      assert.isTrue(outcomes.some(({ isDecoded }) => !isDecoded))
      assert.strictEqual(outcomes.some(({ isQuick }) => isQuick), quick.includes(name))
    })
  }

  const FieldName = Schema.Literals(["id", "a b", "\"quoted\"", "constructor", "toString", "0", "", "${x}", "_private"])
  const pick = Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 1000 }))
  const Text = Schema.Literals(texts)
  /** Those that a kind of field takes, or all. */
  const textsOf = (kind: string, areValid: boolean): ReadonlyArray<string> => {
    const Event = define({ field: kinds[kind]! })
    return areValid ? texts.filter((text) => "event" in bySchema(Event, `{"field":${text}}`)) : texts
  }
  const Case = Schema.Struct({
    name: FieldName,
    kind: pick,
    text: pick,
    isValid: Schema.Boolean,
    isGiven: Schema.Boolean
  })
  const Cases = Schema.Array(Case).check(Schema.isMaxLength(4))
  const Excess = Schema.Array(Schema.Struct({
    name: Schema.Union([FieldName, Schema.Literals(["_tag", "__proto__", "excess"])]),
    text: Text,
    isFirst: Schema.Boolean
  })).check(Schema.isMaxLength(2))

  const outcomes = { decoded: 0, quick: 0, refused: 0 }

  it.prop(
    "random fields, given or not, with others among them",
    [Cases, Excess, Schema.Boolean],
    ([fieldCases, excess, areQuick]) => {
      const fields: Record<string, Schema.Struct.Fields[string]> = {}
      const members: Array<string> = []
      const names = areQuick ? quick : Object.keys(kinds)
      for (const { isGiven, isValid, name, text, ...rest } of fieldCases) {
        const kind = names[rest.kind % names.length]!
        const from = textsOf(kind, isValid)
        fields[name] = kinds[kind]!
        if (isGiven) members.push(`${JSON.stringify(name)}:${from[text % from.length]!}`)
      }
      // A name may come twice in JSON: the last one counts
      for (const { isFirst, name, text } of excess) {
        const member = `${JSON.stringify(name)}:${text}`
        if (isFirst) members.unshift(member)
        else members.push(member)
      }
      const { isDecoded, isQuick } = compare(define(fields), `{${members.join(",")}}`)
      if (isQuick) outcomes.quick++
      if (isDecoded) outcomes.decoded++
      else outcomes.refused++
    },
    { arbitrary: { runs: 3000, size: 6 }, timeout: 60_000 }
  )

  afterAll(() => {
    // The random bodies say something: many are decoded, at once and not, and many are refused
    assert.isAbove(outcomes.quick, 100)
    assert.isAbove(outcomes.decoded - outcomes.quick, 50)
    assert.isAbove(outcomes.refused, 100)
  })

  it("subclasses have members of their own", () => {
    class Sub extends NotificationEvent.Class<Sub>()("Sub", { a: Schema.Int }, { topic: "t" }) {
      readonly twice = this.a * 2
    }
    const Event = Sub as unknown as NotificationEvent.AnyClass
    assert.isTrue(compare(Event, "{\"a\":2,\"excess\":1}").isQuick)
    assert.isFalse(compare(Event, "{\"a\":2.5}").isDecoded)
  })

  it("a member or a check that throws is a defect, as with the Schema", () => {
    class Thrower extends NotificationEvent.Class<Thrower>()("Thrower", { a: Schema.Int }, { topic: "t" }) {
      readonly root = this.#root()
      #root(): number {
        if (this.a < 0) throw new Error("below zero")
        return Math.sqrt(this.a)
      }
    }
    const Checked = define({
      a: Schema.Int.check(Schema.makeFilter<number>(() => {
        throw new Error("below zero")
      }))
    })
    for (const Event of [Thrower as unknown as NotificationEvent.AnyClass, Checked]) {
      const known = new Map([[Event.tag, Event]])
      const message = Message.make({
        topic: "t",
        attributes: { type: MessageCodec.typeOf(Event) },
        body: new TextEncoder().encode("{\"a\":-1}")
      })
      const exit = Effect.runSyncExit(codec.decode(message, known))
      assert.isTrue(Exit.isFailure(exit) && Cause.hasDies(exit.cause))
      assert.match(String(Exit.isFailure(exit) && Cause.squash(exit.cause)), /below zero/)
      assert.isUndefined(decodedAtOnce(message, known))
    }
  })
})

describe("what is decoded at once", () => {
  class News extends NotificationEvent.Class<News>()("News", { n: Schema.Int }, { topic: "t", version: 2 }) {}
  const known = new Map<string, NotificationEvent.AnyClass>([["News", News]])
  const decode = (message: Message.Message) => decodedAtOnce(message, known)
  const of = (type: string | undefined, body: string | Uint8Array) =>
    Message.make({
      topic: "t",
      ...(type === undefined ? undefined : { attributes: { type } }),
      body: typeof body === "string" ? new TextEncoder().encode(body) : body
    })

  it("is of a known type in its current version, and JSON in UTF-8", () => {
    assert.deepStrictEqual(decode(of("News.v2", "{\"n\":1}")), new News({ n: 1 }))
    assert.deepStrictEqual(decode(of("News.v2", "\ufeff{\"n\":1}")), new News({ n: 1 }))
    for (const type of [undefined, "", "News", "News.v1", "News.v3", "News.v02", "Other.v2"]) {
      assert.isUndefined(decode(of(type, "{\"n\":1}")))
    }
    for (const body of ["", "{", "{\"n\":1}x", new Uint8Array([0x7b, 0xff, 0x7d])]) {
      assert.isUndefined(decode(of("News.v2", body)))
    }
  })

  it("is read from what the layer of the message has at hand", () => {
    const message = {
      ...of(undefined, "not the text"),
      readAttribute: (name: string) => name === "type" ? "News.v2" : undefined,
      readText: () => "{\"n\":1}"
    }
    assert.strictEqual(Message.attribute(message, "type"), "News.v2")
    assert.deepStrictEqual(decode(message), new News({ n: 1 }))
    // Which says that it cannot tell
    const unsure = { ...of("News.v2", "{\"n\":2}"), readText: () => undefined }
    assert.deepStrictEqual(decode(unsure), new News({ n: 2 }))
  })
})
