/** RabbitMQ, for a soak. A queue that nobody consumes has a copy of all that is published. */
import { RabbitTopology } from "@event-flow/rabbitmq-layer"
import { type Proxy, startProxy } from "@event-flow/test-support/proxy"
import * as Rabbit from "@event-flow/test-support/rabbitServer"
import { type Channel, connect, type ConsumeMessage } from "amqplib"
import { type Process, processes } from "./schedule.ts"
import { type BrokerStage, ofBroker, type Published } from "./stage.ts"

const copies = "soak-copies"
const exchange = "event-flow"

export const start = async (): Promise<BrokerStage> => {
  const found = await Rabbit.find()
  if (found._tag === "None") throw new Error(found.reason)
  if (found._tag === "Url") throw new Error("unset RABBITMQ_URL: the soak hurts the server")
  const server = await Rabbit.start(found)
  const control = server.control!
  const proxies = new Map<Process, Proxy>()
  for (const process of ofBroker) proxies.set(process, await startProxy(server.url))
  const withChannel = async <A>(use: (channel: Channel) => Promise<A>): Promise<A> => {
    const connection = await connect(server.url)
    try {
      return await use(await connection.createChannel())
    } finally {
      await connection.close()
    }
  }
  return {
    environment: (process) => ({
      RABBITMQ_URL: proxies.get(process)!.url,
      // How soon either side takes a silent connection for lost
      RABBITMQ_HEARTBEAT: "3 seconds"
    }),
    proxies,
    prepare: ({ topic }) =>
      withChannel(async (channel) => {
        await channel.assertExchange(exchange, "topic", { durable: true })
        await channel.assertQueue(copies, { durable: true, arguments: { "x-queue-type": "quorum" } })
        await channel.bindQueue(copies, exchange, topic)
      }),
    kill: control.kill,
    stop: control.stop,
    start: control.start,
    refuse: async ({ group, topic }) => {
      const pattern = `^${RabbitTopology.queueName(group, topic)}$`
      const setMaximum = (length: number) =>
        control.ctl(
          "set_policy",
          "full",
          pattern,
          JSON.stringify({ "max-length": length, "overflow": "reject-publish" }),
          "--apply-to",
          "queues"
        )
      // It becomes full, since nobody consumes
      const ofTotals = processes.filter((process) => process.startsWith("totals")).map((name) => proxies.get(name)!)
      for (const proxy of ofTotals) proxy.stall()
      const resume = () => {
        for (const proxy of ofTotals) proxy.resume()
      }
      await setMaximum(20).catch((error) => {
        resume()
        throw error
      })
      return async () => {
        resume()
        // Not cleared: RabbitMQ 3.10 goes on refusing what comes on the channels that it has refused before
        await setMaximum(1_000_000)
      }
    },
    // It takes nothing when less is free than this
    fill: async () => {
      await control.ctl("set_disk_free_limit", "1000000000000000")
      return async () => {
        await control.ctl("set_disk_free_limit", "1MB")
      }
    },
    published: () =>
      withChannel(async (channel) => {
        const { messageCount } = await channel.checkQueue(copies)
        const published: Array<Published> = []
        const add = ({ content }: ConsumeMessage) => {
          const { customer, number } = JSON.parse(content.toString()) as { customer: string; number: number }
          published.push({ key: customer, number })
        }
        if (messageCount > 0) {
          await new Promise<void>((resolve, reject) => {
            const take = (message: ConsumeMessage | null) => {
              if (message === null) return reject(new Error(`${published.length} of ${messageCount} copies`))
              add(message)
              if (published.length === messageCount) resolve()
            }
            channel.consume(copies, take, { noAck: true }).catch(reject)
          })
        }
        return published
      }),
    deadLetters: ({ topic }) =>
      withChannel(async (channel) => (await channel.checkQueue(RabbitTopology.deadLetterTopic(topic))).messageCount),
    dispose: async () => {
      for (const proxy of proxies.values()) await proxy.close()
      await server.dispose()
    }
  }
}
