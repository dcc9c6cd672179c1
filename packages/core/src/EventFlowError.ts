/**
 * The errors that can occur after a command's handler has succeeded, while its
 * events are processed. `Mediator.send` adds them to the errors of a command
 * that declares `emits`.
 *
 * @stability unstable
 * @since 0.1.0
 */
import * as Predicate from "effect/Predicate"
import * as Schema from "effect/Schema"
import * as SchemaTransformation from "effect/SchemaTransformation"
import { BrokerNotFound, PublishError } from "./Broker.ts"
import { describeWhole, fieldsOf } from "./internal/describe.ts"

const Defect = Schema.Defect()
const encodeDefect = Schema.encodeSync(Defect)
const decodeDefect = Schema.decodeSync(Defect)

/** As `Schema.Defect`, and the tag and the fields of a tagged error go along: the receiver reads them from an `Error`. */
const HandlerCause: Schema.Codec<unknown, Schema.Json> = Schema.Json.pipe(
  Schema.decodeTo(
    Schema.Unknown,
    SchemaTransformation.transform<unknown, Schema.Json>({
      encode: (cause) => {
        const encoded = encodeDefect(cause)
        const fields = cause instanceof Error && "_tag" in cause ? fieldsOf(cause) : undefined
        return fields === undefined || typeof encoded !== "object"
          ? encoded
          : { ...encoded, fields: JSON.parse(fields) as Schema.Json }
      },
      decode: (encoded) => {
        const cause = decodeDefect(encoded)
        return cause instanceof Error && Predicate.hasProperty(encoded, "fields") && Predicate.isObject(encoded.fields)
          ? Object.assign(cause, encoded.fields, { _tag: cause.name })
          : cause
      }
    })
  )
)

/**
 * A handler of an event failed with one of its declared errors.
 *
 * @stability unstable
 * @category errors
 * @since 0.1.0
 */
export class EventHandlerError
  extends Schema.TaggedError<EventHandlerError>("@event-flow/core/EventFlowError/EventHandlerError")(
    "EventHandlerError",
    {
      /** The tag of the event. */
      event: Schema.String,
      /** The name of the handler. */
      handler: Schema.String,
      /**
       * The error that the handler failed with. Over a wire, a tagged error comes as an
       * `Error` with its tag, message and fields, as far as these have a JSON form.
       */
      cause: HandlerCause
    }
  )
{
  override get message(): string {
    return `Handler "${this.handler}" of event "${this.event}" failed: ${describeWhole(this.cause)}`
  }
}

/**
 * An event is more than `maxDepth` follow-ups away from its command. The cause
 * is almost always a cycle, which `FlowGraph` finds before anything runs.
 *
 * @stability unstable
 * @category errors
 * @since 0.1.0
 */
export class CascadeTooDeep
  extends Schema.TaggedError<CascadeTooDeep>("@event-flow/core/EventFlowError/CascadeTooDeep")(
    "CascadeTooDeep",
    { event: Schema.String, maxDepth: Schema.Number }
  )
{
  override get message(): string {
    return `Event "${this.event}" is more than ${this.maxDepth} follow-ups away from its command: ` +
      "look for a cycle with FlowGraph.check, or raise maxDepth"
  }
}

/**
 * Several failures of one dispatch, in the order in which they happened
 * (`onFailure: "accumulate"`). Every event was processed.
 *
 * @stability unstable
 * @category errors
 * @since 0.1.0
 */
export class EventsFailed extends Schema.TaggedError<EventsFailed>("@event-flow/core/EventFlowError/EventsFailed")(
  "EventsFailed",
  {
    failures: Schema.NonEmptyArray(
      Schema.Union([EventHandlerError, BrokerNotFound, PublishError, CascadeTooDeep])
    )
  }
) {
  override get message(): string {
    return `${this.failures.length} failure(s) while processing events:\n` +
      this.failures.map((failure) => `- ${failure.message}`).join("\n")
  }
}

/**
 * One failure while processing events.
 *
 * @stability unstable
 * @category errors
 * @since 0.1.0
 */
export type EventFailure = EventHandlerError | BrokerNotFound | PublishError | CascadeTooDeep

/**
 * Every error that processing events can add to `Mediator.send`.
 *
 * @stability unstable
 * @category errors
 * @since 0.1.0
 */
export type EventFlowError = EventFailure | EventsFailed

/**
 * Schema of `EventFlowError`, for programs that expose commands over a wire.
 *
 * @stability unstable
 * @category schemas
 * @since 0.1.0
 */
export const EventFlowError = Schema.Union([
  EventHandlerError,
  BrokerNotFound,
  PublishError,
  CascadeTooDeep,
  EventsFailed
])

/**
 * A command was sent through a flow whose layer is closed: a defect of the
 * program, which sends from something that outlives the flow (F20). `send` and
 * `stream` die with it.
 *
 * @stability unstable
 * @category errors
 * @since 0.1.0
 */
export class FlowClosed extends Schema.TaggedError<FlowClosed>("@event-flow/core/EventFlowError/FlowClosed")(
  "FlowClosed",
  {
    /** The name of the flow. */
    flow: Schema.String,
    /** The tag of the command. */
    command: Schema.String
  }
) {
  override get message(): string {
    return `Command "${this.command}" was sent after flow "${this.flow}" was closed: ` +
      "provide the flow to what sends, so that it is closed later"
  }
}

/**
 * Whether a value is an `EventFlowError`, for `Effect.catchIf`.
 *
 * @stability unstable
 * @category guards
 * @since 0.1.0
 */
export const isEventFlowError: (u: unknown) => u is EventFlowError = Schema.is(EventFlowError)
