/** Without a broker: which one is asked, and how long for an answer. */
import { assert, describe, it } from "@effect/vitest"
import type { Broker, Connection } from "@platformatic/kafka"
import { ConnectionPool, NetworkError, ResponseError, TimeoutError } from "@platformatic/kafka"
import { createServer } from "node:net"
import type { AddressInfo } from "node:net"
import { Answers, watch } from "../src/internal/answers.ts"

const at = (port: number): Broker => ({ host: "127.0.0.1", port })
const [a, b, c, d] = [at(1), at(2), at(3), at(4)]

const apiVersions = 18
const metadata = 3
const joinGroup = 11
const heartbeat = 12

/** A pool whose brokers answer what `answer` says; undefined: nothing. */
class FakePool extends ConnectionPool {
  readonly asked: Array<readonly [port: number, apiKey: number]> = []
  readonly #answer: (port: number, apiKey: number) => Error | null | undefined
  readonly #connections = new Map<number, Connection>()

  constructor(answer: (port: number, apiKey: number) => Error | null | undefined) {
    super("test")
    this.#answer = answer
  }

  override get(broker: Broker): Promise<Connection>
  override get(broker: Broker, callback: (error: Error | null, connection?: Connection) => void): void
  override get({ port }: Broker, callback?: (error: Error | null, connection?: Connection) => void): any {
    let connection = this.#connections.get(port)
    if (connection === undefined) {
      const waiting: Array<(error: Error) => void> = []
      const send: Connection["send"] = (apiKey, _version, _payload, _parse, _request, _response, callback) => {
        this.asked.push([port, apiKey])
        const answer = this.#answer(port, apiKey)
        if (answer === undefined) waiting.push(callback)
        else callback(answer, undefined)
      }
      const socket = {
        destroy: () => {
          this.#connections.delete(port)
          for (const callback of waiting.splice(0)) callback(new NetworkError("Connection closed"))
        }
      }
      this.#connections.set(port, connection = { send, socket } as unknown as Connection)
      this.emit("connect", { broker: at(port), connection })
    }
    callback!(null, connection)
  }
}

const ask = (connection: Connection, apiKey: number): Promise<Error | null> =>
  new Promise((resolve) =>
    connection.send(apiKey, 1, () => undefined as never, () => undefined, false, false, (error) => resolve(error))
  )

describe("brokers are asked", () => {
  it("in the order in which they answered last; the unknown ones before those that failed", () => {
    const answers = new Answers()
    assert.deepStrictEqual(answers.sort([a, b, c, d]), [a, b, c, d])
    answers.failed(a)
    answers.answered(c)
    answers.failed(b)
    answers.answered(d)
    assert.deepStrictEqual(answers.sort([a, b, c, d]), [d, c, a, b])
    answers.answered(b)
    assert.deepStrictEqual(answers.sort([a, b, c, d]), [b, d, c, a])
  })

  it("by the client, too", async () => {
    const answers = new Answers()
    const pool = new FakePool(() => null)
    watch(pool, answers, { connectTimeout: 60_000, requestTimeout: 60_000 })
    answers.failed(a)
    await pool.getFirstAvailable([a, b])
    assert.deepStrictEqual(pool.asked, [[2, apiVersions]])
  })

  it("so that the one whose metadata were wrong is the last", async () => {
    const answers = new Answers()
    const pool = new FakePool(() => null)
    watch(pool, answers, { connectTimeout: 60_000, requestTimeout: 60_000 })
    await ask(await pool.get(b), heartbeat)
    await ask(await pool.get(a), metadata)
    assert.deepStrictEqual(answers.sort([a, b, c]), [a, b, c])
    answers.doubtMetadata()
    assert.deepStrictEqual(answers.sort([a, b, c]), [b, c, a])
    // Once is enough
    await ask(await pool.get(a), heartbeat)
    answers.doubtMetadata()
    assert.deepStrictEqual(answers.sort([a, b, c]), [a, b, c])
  })

  it("so that one that accepts connections and is mute costs its `connectTimeout` once", async () => {
    const mute = createServer((socket) => socket.resume())
    await new Promise<void>((resolve) => mute.listen(0, "127.0.0.1", resolve))
    const broker = at((mute.address() as AddressInfo).port)
    const answers = new Answers()
    const pool = new ConnectionPool("test", { connectTimeout: 60_000, requestTimeout: 60_000 })
    watch(pool, answers, { connectTimeout: 50, requestTimeout: 60_000 })
    const failure = await pool.get(broker).then(() => undefined, (error: Error) => error)
    assert.strictEqual(failure?.message, `127.0.0.1:${broker.port} has not answered within 50 ms`)
    assert.deepStrictEqual(answers.sort([broker, a]), [a, broker])
    await pool.close()
    await new Promise((resolve) => mute.close(resolve))
  })
})

describe("a request", () => {
  it("comes after the first answer on its connection, a refusal or not", async () => {
    const pool = new FakePool((port, apiKey) =>
      apiKey === apiVersions && port === 1 ? new ResponseError(18, 3, { "": [35, null] }, {}) : null
    )
    watch(pool, new Answers(), { connectTimeout: 60_000, requestTimeout: 60_000 })
    for (const broker of [a, b]) assert.isNull(await ask(await pool.get(broker), heartbeat))
    assert.isNull(await ask(await pool.get(a), heartbeat))
    assert.deepStrictEqual(pool.asked, [[1, apiVersions], [1, heartbeat], [2, apiVersions], [2, heartbeat], [
      1,
      heartbeat
    ]])
  })

  it("without an answer breaks the connection, unless a JoinGroup is under way on it", async () => {
    const pool = new FakePool((_port, apiKey) => apiKey === apiVersions ? null : undefined)
    const answers = new Answers()
    watch(pool, answers, { connectTimeout: 60_000, requestTimeout: 20 })
    const isOver = { joining: false, behind: false }
    void ask(await pool.get(a), joinGroup).then(() => isOver.joining = true)
    void ask(await pool.get(a), heartbeat).then(() => isOver.behind = true)
    // What is asked later, and alone, ends
    for (const broker of [b, c]) {
      const error = await ask(await pool.get(broker), heartbeat)
      assert.instanceOf(error, NetworkError)
      assert.strictEqual(error.message, `127.0.0.1:${broker.port} has not answered within 20 ms`)
    }
    assert.deepStrictEqual(isOver, { joining: false, behind: false })
    assert.deepStrictEqual(answers.sort([c, b, a]), [a, b, c])
  })

  it("for metadata is answered where nothing but partitions have no leader", async () => {
    const failures: Record<number, Error> = {
      1: new ResponseError(3, 12, { "/topics/0/partitions/1": [5, null], "/topics/1/partitions/0": [5, null] }, {
        x: 1
      }),
      2: new ResponseError(3, 12, { "/topics/0/partitions/1": [5, null], "/topics/1": [3, null] }, { x: 1 }),
      3: new TimeoutError("Request timed out")
    }
    const pool = new FakePool((port, apiKey) => apiKey === metadata ? failures[port]! : null)
    watch(pool, new Answers(), { connectTimeout: 60_000, requestTimeout: 60_000 })
    assert.isNull(await ask(await pool.get(a), metadata))
    assert.strictEqual(await ask(await pool.get(b), metadata), failures[2])
    assert.strictEqual(await ask(await pool.get(c), metadata), failures[3])
  })
})
