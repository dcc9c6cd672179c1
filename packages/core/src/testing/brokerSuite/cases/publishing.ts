/** Publishing and subscribing. */
import * as SecureRandom from "effect/crypto/SecureRandom"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Broker from "../../../Broker.ts"
import { emptyRecord } from "../../../BrokerLayer.ts"
import * as Message from "../../../Message.ts"
import {
  bytesOf,
  checkSame,
  type Definition,
  encoder,
  headerBytes,
  keyOf,
  numbers,
  oddHeaders,
  Reader,
  textOf,
  toMessage
} from "../kit.ts"

export const publishing: ReadonlyArray<Definition> = [
  {
    name: "publish and subscribe: every message arrives once",
    run: Effect.fnUntraced(function*(bench) {
      const topic = yield* bench.topic()
      const other = yield* bench.topic("other")
      const reader = yield* bench.subscribe({ topics: [topic] })
      yield* bench.publish(topic, numbers(50))
      yield* bench.publish(topic, numbers(50, 51))
      const seen = yield* reader.until(numbers(100))
      // After a while in which nothing came
      yield* bench.fence(other)
      yield* bench.publish(topic, ["101"])
      bench.checkComplete([...seen, ...(yield* reader.until(["101"]))], numbers(101), "what arrived")
    })
  },
  {
    name: "a message keeps its key, attributes, headers and body byte for byte",
    run: Effect.fnUntraced(function*(bench) {
      const topic = yield* bench.topic()
      const reader = yield* bench.subscribe({ topics: [topic] })
      const { publish } = yield* Broker.Broker
      const attributes = {
        specversion: "1.0",
        id: SecureRandom.uuidV7Unsafe(),
        type: "Zażółć.v2",
        source: "/suite/Ελλάδα?a=1&b=%20",
        subject: "ключ 🔑",
        time: "2026-01-02T03:04:05.678Z",
        datacontenttype: "application/json; charset=utf-8",
        correlationid: "c-1",
        causationid: "c-0",
        traceparent: "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        customextension: "42"
      }
      const headers = Object.assign(emptyRecord<Message.Headers[string]>(), oddHeaders, {
        plain: "text",
        "X-Mixed-Case": "kept",
        unicode: "naïve 🛫",
        empty: "",
        binary: new Uint8Array([0xff, 0x00, 0xfe, 0x80])
      })
      const bodies = [
        encoder.encode("{\"title\":\"šŧŕąñģė 🛬\"}"),
        new Uint8Array(0),
        Uint8Array.from({ length: 256 }, (_, i) => 255 - i)
      ]
      for (const body of bodies) {
        for (const key of ["ключ 🔑", undefined]) {
          const sent = Message.make({ topic, key, attributes, headers, body })
          yield* publish([sent])
          const delivery = yield* reader.next("a message")
          const { message } = delivery
          checkSame(message.topic, topic, "topic")
          checkSame(message.key, key, "key")
          checkSame(bytesOf(message.body), bytesOf(body), "body")
          checkSame(
            Object.entries(message.attributes).sort(),
            Object.entries(attributes).sort(),
            "attributes"
          )
          checkSame(Object.keys(message.headers).sort(), Object.keys(headers).sort(), "names of headers")
          for (const name of Object.keys(headers)) {
            checkSame(headerBytes(message, name), headerBytes(sent, name), `header ${name}`)
          }
          yield* delivery.ack
        }
      }
    })
  },
  {
    name: "a tombstone has no body, which is not the same as an empty one",
    run: Effect.fnUntraced(function*(bench) {
      const topic = yield* bench.topic()
      const reader = yield* bench.subscribe({ topics: [topic] })
      const { publish } = yield* Broker.Broker
      for (const body of [null, new Uint8Array(0)]) {
        yield* publish([Message.make({ topic, key: "k", headers: { own: "1" }, body })])
        const { ack, message } = yield* reader.next("a message")
        checkSame(bytesOf(message.body), bytesOf(body), "body")
        checkSame([message.key, Object.keys(message.headers)], ["k", ["own"]], "key and headers")
        yield* ack
      }
    })
  },
  {
    name: "a key that is no text keeps its bytes",
    needs: ["binaryKeys"],
    run: Effect.fnUntraced(function*(bench) {
      const topic = yield* bench.topic()
      const reader = yield* bench.subscribe({ topics: [topic] })
      const { publish } = yield* Broker.Broker
      const key = new Uint8Array([0xff, 0x00, 0xc3])
      yield* publish([Message.make({ topic, key, body: encoder.encode("1") })])
      const delivery = yield* reader.next("the message")
      checkSame(bytesOf(delivery.message.key), bytesOf(key), "key")
      yield* delivery.ack
    })
  },
  {
    name: "a foreign message without attributes, key and headers arrives as it is",
    run: Effect.fnUntraced(function*(bench) {
      const topic = yield* bench.topic()
      const reader = yield* bench.subscribe({ topics: [topic] })
      const { publish } = yield* Broker.Broker
      yield* publish([Message.make({ topic, body: encoder.encode("1") })])
      const { ack, message } = yield* reader.next("the message")
      checkSame([textOf(message), message.key, message.attributes], ["1", undefined, {}], "body, key and attributes")
      yield* ack
    })
  },
  {
    name: "many subscribers and publishers: each message goes to one consumer of the group",
    run: Effect.fnUntraced(function*(bench) {
      const topic = yield* bench.topic()
      const other = yield* bench.topic("other")
      const reader = yield* Reader.make(bench)
      yield* Effect.forEach(numbers(4), () => bench.subscribe({ topics: [topic], into: reader, maxInFlight: 10 }))
      yield* Effect.forEach(
        numbers(4),
        (publisher) =>
          Effect.forEach(numbers(25, Number(publisher) * 100), (text) => bench.publish(topic, [text], keyOf), {
            concurrency: 5
          }),
        { concurrency: "unbounded" }
      )
      const expected = numbers(4).flatMap((publisher) => numbers(25, Number(publisher) * 100))
      const seen = yield* reader.until(expected)
      yield* bench.fence(other)
      if (bench.features.duplicatesOnRebalance !== true) {
        checkSame(yield* reader.waiting, 0, "deliveries when all have arrived")
      }
      bench.checkComplete(seen, expected, "what arrived")
    })
  },
  {
    name: "topics are isolated",
    run: Effect.fnUntraced(function*(bench) {
      const left = yield* bench.topic("left")
      const right = yield* bench.topic("right")
      const readers = yield* Effect.forEach(
        [left, right],
        (topic) => bench.subscribe({ topics: [topic], group: bench.group() })
      )
      yield* bench.publish(left, numbers(10))
      yield* bench.publish(right, numbers(10, 11))
      bench.checkComplete(yield* readers[0]!.until(numbers(10)), numbers(10), "the left topic")
      bench.checkComplete(yield* readers[1]!.until(numbers(10, 11)), numbers(10, 11), "the right topic")
    })
  },
  {
    name: "one subscription to many topics, one publish to many topics",
    run: Effect.fnUntraced(function*(bench) {
      const topics = yield* Effect.forEach(["a", "b", "c", "d", "e"] as const, (name) => bench.topic(name))
      const reader = yield* bench.subscribe({ topics })
      yield* bench.publishAll(numbers(50).map((text, i) => toMessage(topics[i % 5]!, text, undefined)))
      const wrong: Array<string> = []
      yield* reader.until(numbers(50), ({ ack, message }) => {
        if (message.topic !== topics[(Number(textOf(message)) - 1) % 5]) wrong.push(textOf(message))
        return ack
      })
      checkSame(wrong, [], "messages under the wrong topic")
    })
  },
  {
    name: "publishing right before reading loses nothing",
    run: Effect.fnUntraced(function*(bench) {
      const topic = yield* bench.topic()
      const isFirst = bench.features.persistentTopics !== true || bench.features.oldMessagesForNewGroups !== true
      const early = isFirst ? yield* bench.subscribe({ topics: [topic] }) : undefined
      yield* bench.publish(topic, numbers(10))
      const reader = early ?? (yield* bench.subscribe({ topics: [topic] }))
      const publishing = yield* Effect.forkChild(
        Effect.forEach(numbers(10, 11), (text) => bench.publish(topic, [text])),
        { startImmediately: true }
      )
      bench.checkComplete(yield* reader.until(numbers(20)), numbers(20), "what arrived")
      yield* Fiber.join(publishing)
    })
  },
  {
    name: "messages outlive the layer that published them",
    needs: ["durable"],
    run: Effect.fnUntraced(function*(bench) {
      const topic = yield* bench.topic()
      // Where a queue is made by subscribing
      if (bench.features.persistentTopics !== true) {
        const { close } = yield* bench.subscribe({ topics: [topic] })
        yield* close
      }
      yield* Effect.provide(bench.publish(topic, numbers(20)), bench.layer)
      const reader = yield* bench.subscribe({ topics: [topic] })
      bench.checkComplete(yield* reader.until(numbers(20)), numbers(20), "what arrived")
    })
  }
]
