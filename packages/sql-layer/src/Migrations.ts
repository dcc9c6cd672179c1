/**
 * The tables of outbox and inbox: versioned, run by effect's `Migrator`.
 *
 * @stability unstable
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Migrator from "effect/sql/Migrator"
import * as SqlClient from "effect/sql/SqlClient"
import type { SqlError } from "effect/sql/SqlError"
import { statements as pgStatements } from "./internal/schema.ts"
import * as Tables from "./Tables.ts"

/**
 * Runs the migrations that have not run yet, and gives them. Safe to run from
 * many processes at once, and at every start: the others wait.
 *
 * **Gotchas**
 *
 * The names of `Tables` are those to create: to rename a table later is to
 * rename it in the database too. A schema in a name must exist.
 *
 * @stability unstable
 * @category running
 * @since 0.1.0
 */
export const run: Effect.Effect<
  ReadonlyArray<readonly [id: number, name: string]>,
  Migrator.MigrationError | SqlError,
  SqlClient.SqlClient
> = Effect.flatMap(Tables.Tables, (tables) =>
  Migrator.make({})({
    loader: Migrator.fromRecord(
      Object.fromEntries(
        pgStatements(tables).map(({ name, statements }) => [
          name,
          Effect.flatMap(SqlClient.SqlClient, (sql) =>
            Effect.forEach(statements, (statement) => sql.unsafe(statement), { discard: true }))
        ])
      )
    ),
    table: tables.migrations
  }))

/**
 * Runs the migrations when the layer is built.
 *
 * **Example** (Before everything that needs the tables)
 *
 * ```ts
 * import { PgClient } from "@effect/sql-pg"
 * import { Migrations } from "@event-flow/sql-layer"
 * import { Config, Layer } from "effect"
 *
 * const Database = Migrations.layer.pipe(
 *   Layer.provideMerge(PgClient.layerConfig({ url: Config.Redacted("DATABASE_URL") }))
 * )
 * ```
 *
 * @stability unstable
 * @category layers
 * @since 0.1.0
 */
export const layer: Layer.Layer<never, Migrator.MigrationError | SqlError, SqlClient.SqlClient> = Layer.effectDiscard(
  run
)

/**
 * The same as SQL, for those who have a tool of their own for migrations: each
 * with its name, in order. Names of tables default to those of `Tables`.
 *
 * @stability unstable
 * @category getters
 * @since 0.1.0
 */
export const statements = (
  tables?: Partial<Tables.Names>
): ReadonlyArray<{ readonly name: string; readonly statements: ReadonlyArray<string> }> =>
  pgStatements({ ...Tables.Tables.defaultValue(), ...tables })
