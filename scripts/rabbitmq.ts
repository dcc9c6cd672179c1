/**
 * `npm run rabbitmq`: starts the RabbitMQ server that the tests use, prints its
 * address, and ends it with Ctrl-C.
 */
import { find, start } from "@event-flow/test-support/rabbitServer"

const found = await find()
if (found._tag === "None") {
  console.error(`No RabbitMQ: ${found.reason}`)
  process.exit(1)
}
const server = await start(found)
// Alone on its line and first: programs read it
console.log(`RABBITMQ_URL=${server.url}`)
console.log(`${server.description}; Ctrl-C ends it`)

// Keeps the process alive until then
const alive = setInterval(() => {}, 1 << 30)
await new Promise<void>((resolve) => {
  process.once("SIGINT", () => resolve())
  process.once("SIGTERM", () => resolve())
})
await server.dispose()
clearInterval(alive)
