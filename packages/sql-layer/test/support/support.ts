/** What the tests against a server share. */
import { PgClient } from "@effect/sql-pg"
import { unique } from "@event-flow/test-support/effects"
import { type Control, find, type Options, type PostgresServer, start } from "@event-flow/test-support/postgresServer"
import { serverTests } from "@event-flow/test-support/sharedServer"
import { Effect, Layer, Redacted, type Scope } from "effect"
import type { SqlClient, SqlError } from "effect/sql"

export { eventually, silently, unique } from "@event-flow/test-support/effects"

const postgres = serverTests("postgres")

export const { withOwnServer, withServer } = postgres

/** Of the shared server. Tests do not use its database but a fresh one. */
export const url = postgres.address ?? "postgres://postgres@127.0.0.1:1/postgres"

export interface OwnServer extends PostgresServer {
  readonly control: Control
}

/** A server to hurt; durable, since what survives is the question. */
export const startOwn = async (options: Options = {}): Promise<OwnServer> => {
  const found = await find()
  if (found._tag === "None") throw new Error(found.reason)
  const server = await start(found, { durable: true, ...options })
  if (server.control === undefined) throw new Error("the server of DATABASE_URL is not ours")
  return { ...server, control: server.control }
}

/** `startOwn` for the length of a scope. */
export const ownServer = (options?: Options): Effect.Effect<OwnServer, never, Scope.Scope> =>
  Effect.acquireRelease(
    Effect.promise(() => startOwn(options)),
    (server) => Effect.promise(server.dispose)
  )

/** A server's method, as an effect. */
export const control = (server: OwnServer, what: keyof Control): Effect.Effect<void> =>
  Effect.promise(server.control[what])

export interface ClientOptions extends Omit<PgClient.PgPoolConfig, "url"> {}

/** A client of a database that is there. */
export const clientLayer = (
  url: string,
  options?: ClientOptions
): Layer.Layer<PgClient.PgClient | SqlClient.SqlClient, SqlError.SqlError> =>
  PgClient.layer({ ...options, url: Redacted.make(url) })

export interface FreshOptions {
  /** The address of the server; the shared one unless given. */
  readonly server?: string | undefined
}

const maintain = (server: string, statement: string): Effect.Effect<void, SqlError.SqlError> =>
  Effect.flatMap(PgClient.PgClient, (sql) => sql.unsafe(statement)).pipe(
    Effect.provide(clientLayer(server, { maxConnections: 1 })),
    Effect.asVoid
  )

/** A database of its own for the length of a scope; gives its address. */
export const freshDatabase = (options?: FreshOptions): Effect.Effect<string, SqlError.SqlError, Scope.Scope> => {
  const server = options?.server ?? url
  const name = unique("test").replace("-", "_")
  const address = new URL(server)
  address.pathname = `/${name}`
  return Effect.acquireRelease(
    Effect.as(maintain(server, `CREATE DATABASE ${name}`), address.href),
    // Fails where the test has ended its server
    () => Effect.ignore(maintain(server, `DROP DATABASE IF EXISTS ${name} WITH (FORCE)`))
  )
}

/** A client of a database of its own, which goes with the layer. `PgClient`'s `config.url` has its address. */
export const freshDatabaseLayer = (
  options: FreshOptions & ClientOptions = {}
): Layer.Layer<PgClient.PgClient | SqlClient.SqlClient, SqlError.SqlError> => {
  const { server, ...client } = options
  return Layer.unwrap(Effect.map(freshDatabase({ server }), (url) => clientLayer(url, client)))
}

/** Forked, and running at once. */
export const started = <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.forkChild(effect, { startImmediately: true })
