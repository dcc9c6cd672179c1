/**
 * amqplib by hand with the guarantees of the layer: publishes confirmed,
 * persistent and mandatory, and kept until they are confirmed, to be sent again;
 * consumed messages decoded, handled in order per key, and acknowledged
 * when handled.
 */
import { connect } from "amqplib"
import type { Result, Task } from "./work.ts"
import { exchange, inFlight, main, Meter, prefetch, work } from "./work.ts"

const publish = async (task: Task): Promise<Result> => {
  const connection = await connect(task.url, { noDelay: true })
  const channel = await connection.createConfirmChannel()
  const meter = new Meter(task)
  const total = task.warmUp + task.count
  const unconfirmed = new Map<string, { readonly message: ReturnType<typeof work>; isReturned: boolean }>()
  channel.on("return", ({ properties }) => {
    const entry = unconfirmed.get(properties.messageId as string)
    if (entry !== undefined) entry.isReturned = true
  })
  let next = 0
  const send = (i: number): Promise<void> =>
    new Promise((resolve, reject) => {
      const message = work(i)
      const entry = { message, isReturned: false }
      unconfirmed.set(message.id, entry)
      channel.publish(exchange, task.topic, message.body, {
        persistent: true,
        mandatory: true,
        contentType: "application/json",
        messageId: message.id,
        headers: {
          "cloudEvents:specversion": "1.0",
          "cloudEvents:id": message.id,
          "cloudEvents:type": message.type,
          "cloudEvents:source": "/bench",
          "event-flow-key": message.key
        }
      }, (error: unknown) => {
        unconfirmed.delete(message.id)
        if (error !== null || entry.isReturned) reject(error ?? new Error("unroutable"))
        else resolve()
      })
    })
  const worker = async () => {
    while (next < total) {
      await send(next++)
      meter.tick()
    }
  }
  await Promise.all(Array.from({ length: inFlight }, worker))
  return meter.done
}

const consume = async (task: Task): Promise<Result> => {
  const connection = await connect(task.url, { noDelay: true })
  const channel = await connection.createChannel()
  const meter = new Meter(task)
  const lanes = new Map<string, Promise<void>>()
  const handle = async (_event: { readonly i: number; readonly padding: string }): Promise<void> => {
    meter.tick()
  }
  await channel.prefetch(prefetch)
  await channel.consume(task.queue, (message) => {
    if (message === null) throw new Error("cancelled")
    const headers = message.properties.headers ?? {}
    if (headers["cloudEvents:type"] !== "Measured.v1") throw new Error("unknown type")
    const key = headers["event-flow-key"] as string
    const run = async () => {
      await handle(JSON.parse(message.content.toString()))
      channel.ack(message)
      if (lanes.get(key) === lane) lanes.delete(key)
    }
    const before = lanes.get(key)
    const lane: Promise<void> = before === undefined ? Promise.resolve().then(run) : before.then(run)
    lanes.set(key, lane)
  })
  return meter.done
}

void main((task) => task.workload === "publish" ? publish(task) : consume(task))
