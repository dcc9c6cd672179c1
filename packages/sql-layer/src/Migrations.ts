/**
 * The migrations that create the tables of outbox and inbox. Effect's
 * `Migrator` runs them.
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
 * Runs the migrations that have not run yet, and returns them. Many processes
 * may run it at once, and at every start: one migrates, the others wait.
 *
 * **Gotchas**
 *
 * The tables get the names of `Tables`. To change a name later, rename the
 * table in the database too. A schema in a name must exist.
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
 * The migrations as SQL, each with its name, in order, for another migration
 * tool. Names of tables default to those of `Tables`.
 *
 * @stability unstable
 * @category getters
 * @since 0.1.0
 */
export const statements = (
  tables?: Partial<Tables.Names>
): ReadonlyArray<{ readonly name: string; readonly statements: ReadonlyArray<string> }> =>
  pgStatements({ ...Tables.Tables.defaultValue(), ...tables })
