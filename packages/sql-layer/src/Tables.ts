/**
 * The names of the tables.
 *
 * @stability unstable
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import * as Layer from "effect/Layer"

/**
 * The names of the tables, with or without a schema: `"app.outbox"`.
 *
 * @stability unstable
 * @category models
 * @since 0.1.0
 */
export interface Names {
  /** Messages to publish. Default: `"event_flow_outbox"`. */
  readonly outbox: string
  /** Messages handled. Default: `"event_flow_inbox"`. */
  readonly inbox: string
  /** Which migrations have run. Default: `"event_flow_migrations"`. */
  readonly migrations: string
}

/**
 * The names that the layers and functions of this package use. All programs
 * that share an outbox must use the same names.
 *
 * @stability unstable
 * @category references
 * @since 0.1.0
 */
export const Tables: Context.Reference<Names> = Context.Reference<Names>("@event-flow/sql-layer/Tables", {
  defaultValue: () => defaults
})

const defaults: Names = {
  outbox: "event_flow_outbox",
  inbox: "event_flow_inbox",
  migrations: "event_flow_migrations"
}

/**
 * Sets other names for the layers that are built below it.
 *
 * @stability unstable
 * @category layers
 * @since 0.1.0
 */
export const layer = (names: Partial<Names>): Layer.Layer<never> => Layer.succeed(Tables)({ ...defaults, ...names })
