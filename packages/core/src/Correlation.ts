/**
 * The correlation of a flow: the id that all of its messages share, and the id
 * of the message that caused this part of it.
 *
 * @stability unstable
 * @since 0.1.0
 */
import * as Context from "effect/Context"

/**
 * The correlation of the running flow.
 *
 * @stability unstable
 * @category models
 * @since 0.1.0
 */
export interface Correlation {
  /** The id that all messages of a flow share, in every process that the flow passes through. */
  readonly correlationId: string
  /** The id of the consumed message that started this part of the flow; undefined when none did. */
  readonly causationId: string | undefined
}

/**
 * The correlation of the running flow; undefined outside a flow.
 *
 * **Details**
 *
 * `Mediator.send` starts one when there is none, so nested sends share it; the
 * `EventConsumer` restores it from the message that it handles. Provide it
 * yourself to use an id from elsewhere, such as a request header:
 * `Effect.provideService(Correlation.Current, Correlation.make(id))`.
 *
 * @stability unstable
 * @category references
 * @since 0.1.0
 */
export const Current: Context.Reference<Correlation | undefined> = Context.Reference<Correlation | undefined>(
  "@event-flow/core/Correlation/Current",
  { defaultValue: () => undefined }
)

/**
 * A correlation with a known id.
 *
 * @stability unstable
 * @category constructors
 * @since 0.1.0
 */
export const make = (correlationId: string, causationId?: string): Correlation => ({ correlationId, causationId })
