/** What the tests against a server share. */
import { PgClient } from "@effect/sql-pg"
import { Effect, Layer, Redacted, References, Schedule, type Scope } from "effect"
import { SecureRandom } from "effect/crypto"
import type { SqlClient, SqlError } from "effect/sql"
import { describe, inject } from "vitest"
import { type Control, find, type Options, type PostgresServer, start } from "./postgresServer.ts"

const postgres = inject("postgres")

/** Why the tests that need a server do not run, as a suffix of their group's name. */
const why = "reason" in postgres ? ` (skipped: ${postgres.reason})` : ""

/** Of the shared server. Tests do not use its database but a fresh one. */
export const url = "url" in postgres ? postgres.url : "postgres://postgres@127.0.0.1:1/postgres"

/** Tests that need a server. */
export const withServer = (name: string, tests: () => void): void => {
  describe.skipIf(why !== "")(name + why, tests)
}

/** Tests that stop and kill a server: they start their own. */
export const withOwnServer = (name: string, tests: () => void): void => {
  const reason = "isOurs" in postgres && !postgres.isOurs ? " (skipped: the server of DATABASE_URL is not ours)" : why
  describe.skipIf(reason !== "")(name + reason, tests)
}

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

export const unique = (name: string): string => `${name}-${SecureRandom.uuidV7Unsafe().slice(-12)}`

/** Faults are logged as warnings, and tests make many. */
export const silently = Layer.succeed(References.MinimumLogLevel, "Error")

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
    // In vain where the test has ended its server
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

/** Waits for a condition, with a bound that a slow machine does not reach. For live tests. */
export const eventually = <E = never, R = never>(
  what: string,
  condition: (() => boolean | Promise<boolean>) | Effect.Effect<boolean, E, R>
): Effect.Effect<void, E, R> =>
  (Effect.isEffect(condition) ? condition : Effect.promise(async () => condition())).pipe(
    Effect.repeat({ schedule: Schedule.spaced("20 millis"), until: (ok) => ok }),
    Effect.timeoutOrElse({ duration: "60 seconds", orElse: () => Effect.die(new Error(`Waited in vain: ${what}`)) }),
    Effect.asVoid
  )
