/** What an example loads before it does anything: most of the time from its start to its first record. */
import { assert, it, vi } from "@effect/vitest"
import { fixture, start } from "./support.ts"

// Each test starts a process or more, all at once.
vi.setConfig({ testTimeout: 180_000 })

/** The packages of which a run of an example has loaded modules; those of the repository by their folders. */
const loaded = async (main: string, args: ReadonlyArray<string>, env: Record<string, string> = {}) => {
  const { stderr } = await start(main, args, { ...env, NODE_OPTIONS: `--import ${fixture("modules.mjs")}` }).ended
  return /^loaded (.*)$/m.exec(stderr)![1]!.split(" ")
}

const always = ["@effect/platform-node", "@effect/platform-node-shared", "core", "effect", "examples"]

it("flights loads no client of a broker for the memory broker", async () => {
  assert.deepStrictEqual(await loaded("flights/main.ts", ["--file", fixture("dirty.json")]), always)
})

it("flights loads the client of the broker that is chosen, and no other", async () => {
  // Neither connects: a wrong setting fails when the layer is built
  const [kafka, rabbitmq] = await Promise.all([
    loaded("flights/main.ts", ["--broker", "kafka"], { KAFKA_BOOTSTRAP_SERVERS: "a:1", KAFKA_CONNECT_TIMEOUT: "?" }),
    loaded("flights/main.ts", ["--broker", "rabbitmq"], { RABBITMQ_URL: "?" })
  ])
  assert.includeMembers(kafka, ["@platformatic/kafka", "kafka-layer"])
  assert.notIncludeMembers(kafka, ["amqplib", "rabbitmq-layer"])
  assert.includeMembers(rabbitmq, ["amqplib", "rabbitmq-layer"])
  assert.notIncludeMembers(rabbitmq, ["@platformatic/kafka", "kafka-layer"])
})

it("orders loads no client of a broker before one is chosen", async () => {
  const names = await loaded("orders/main.ts", ["--help"])
  assert.notIncludeMembers(names, ["@platformatic/kafka", "ajv", "amqplib", "kafka-layer", "rabbitmq-layer", "undici"])
})
