/** Timeouts that somebody has set for the whole database, shorter than a broker takes. */
import { PgClient } from "@effect/sql-pg"
import { assert } from "@effect/vitest"
import { Effect, Redacted } from "effect"
import { inTurns, numbered } from "../support/messages.ts"
import { empty, live, put, recorder, startRelayOn } from "../support/relays.ts"
import { withServer } from "../support/support.ts"

withServer("a publish that takes longer", () => {
  for (const setting of ["idle_in_transaction_session_timeout", "transaction_timeout", "statement_timeout"]) {
    live(`than the database's ${setting} is marked, and not repeated`, () =>
      Effect.gen(function*() {
        const sql = yield* PgClient.PgClient
        const url = Redacted.value(sql.config.url!)
        yield* sql.unsafe(`ALTER DATABASE "${new URL(url).pathname.slice(1)}" SET ${setting} = '400ms'`)
        yield* put([...inTurns(numbered("a", 100), numbered("b", 100)), ...numbered("c", 50)])
        const broker = recorder(() => Effect.sleep("1 second"))
        yield* startRelayOn(url, broker.layer)
        yield* empty
        assert.lengthOf(broker.log(), 250)
        assert.strictEqual(new Set(broker.log()).size, 250)
      }))
  }
})
