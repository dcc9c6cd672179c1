/** The failure of a statement of the simulated store. */
import * as Schema from "effect/Schema"

/**
 * A statement or a commit of the simulated store failed; public as
 * `Store.StoreError`.
 */
export class StoreError
  extends Schema.TaggedError<StoreError>("@event-flow/simulation/Store/StoreError")("StoreError", {
    statement: Schema.String,
    /**
     * - `"ConnectionLost"`: the connection broke. Of a commit, and of a statement
     *   outside of a transaction, nobody knows whether it was done.
     * - `"Aborted"`: an earlier statement of the transaction had failed.
     * - `"Deadlock"`: two transactions waited for each other, and this one was chosen.
     */
    reason: Schema.Literals(["ConnectionLost", "Aborted", "Deadlock"])
  })
{
  override get message(): string {
    const what = {
      ConnectionLost: "the connection was lost",
      Aborted: "the transaction was aborted by an earlier failure",
      Deadlock: "a deadlock was found, and this transaction was rolled back"
    }[this.reason]
    return `The statement "${this.statement}" failed: ${what}`
  }
}
