/**
 * `npm run postgres`: starts the PostgreSQL server that the tests use, prints its
 * address, and ends it with Ctrl-C. `--durable`: commits survive a power failure,
 * and cost what they cost.
 */
import { find, start } from "@event-flow/test-support/postgresServer"

const found = await find()
if (found._tag === "None") {
  console.error(`No PostgreSQL: ${found.reason}`)
  process.exit(1)
}
const server = await start(found, { durable: process.argv.includes("--durable") })
// Alone on its line and first: programs read it
console.log(`DATABASE_URL=${server.url}`)
console.log(`${server.description}; Ctrl-C ends it`)

// Keeps the process alive until then
const alive = setInterval(() => {}, 1 << 30)
await new Promise<void>((resolve) => {
  process.once("SIGINT", () => resolve())
  process.once("SIGTERM", () => resolve())
})
await server.dispose()
clearInterval(alive)
