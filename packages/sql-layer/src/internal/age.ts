/** How old something may become, as a setting. */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import * as SchemaGetter from "effect/SchemaGetter"
import * as SchemaIssue from "effect/SchemaIssue"

/**
 * A `Duration.Input` from 0, checked and turned into a `Duration`. Unlike
 * `Settings.duration` it may be longer than a timer can wait (24 days): the
 * database compares it with the time of rows.
 */
export const age = (
  options: { readonly infinite: boolean }
): Schema.decodeTo<Schema.Duration, Schema.declare<Duration.Input>> => {
  const expected = `a duration from 0${options.infinite ? ", or Infinity" : ""}, such as "7 days"`
  return AgeInput.pipe(Schema.decodeTo(Schema.Duration, {
    decode: SchemaGetter.transformEffect((input: Duration.Input, parse) => {
      // Effect takes a number that is none for zero
      const parts: ReadonlyArray<unknown> = typeof input === "object" ? Object.values(input) : [input]
      const duration = parts.some(Number.isNaN) ? undefined : Option.getOrUndefined(Duration.fromInput(input))
      const millis = duration === undefined ? Number.NaN : Duration.toMillis(duration)
      return duration !== undefined && millis >= 0 && (options.infinite || millis < Infinity)
        ? Effect.succeed(duration)
        : Effect.fail(new SchemaIssue.InvalidValue({ expected }, input, parse))
    }),
    encode: SchemaGetter.transform((duration: Duration.Duration): Duration.Input => duration)
  }))
}

// --- internal ---

/** Whatever was given: `age` checks it. */
const AgeInput: Schema.declare<Duration.Input> = Schema.declare(
  (input): input is Duration.Input => input !== undefined,
  {
    toCodecStringTree: () =>
      Schema.link<Duration.Input>()(Schema.String, {
        // Not any string is one: `age` refuses the others
        decode: SchemaGetter.transform((text: string) => text as Duration.Input),
        encode: SchemaGetter.transform(String)
      })
  }
)
