/** What the commands change. */
import { Effect } from "effect"
import type { SqlError } from "effect/sql"
import { SqlClient } from "effect/sql"
import { accounts } from "./work.ts"

export const makeAccounts: Effect.Effect<void, SqlError.SqlError, SqlClient.SqlClient> = Effect.gen(function*() {
  const sql = yield* SqlClient.SqlClient
  yield* sql`CREATE TABLE account (id int PRIMARY KEY, balance bigint NOT NULL) WITH (fillfactor = 50)`
  yield* sql`INSERT INTO account SELECT i, 0 FROM generate_series(0, ${accounts - 1}::int) i`
})
