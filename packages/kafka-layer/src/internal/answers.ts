/**
 * Keeps the client from waiting for brokers that accept connections and do not answer: the process is frozen, the
 * machine is overloaded, or something in between accepts in place of a broker that is gone.
 *
 * The client asks for metadata and coordinators the first broker of its list that accepts a connection, and turns to
 * the next one only within its own retries, which this package does not use. And it takes an answer of metadata in
 * which one partition has no leader for a failure, which keeps it from all other partitions.
 */
import {
  apiVersionsV3,
  clientSoftwareName,
  clientSoftwareVersion,
  NetworkError,
  ProtocolError,
  ResponseError,
  TimeoutError
} from "@platformatic/kafka"
import type { Broker, Callback, Connection, ConnectionPool } from "@platformatic/kafka"

/** Which brokers answer. It outlives the clients that a subscription makes one after another. */
export class Answers {
  /** By address: the higher, the later it answered; below zero, and the lower, the later it failed since. */
  readonly #ranks = new Map<string, number>()
  #count = 0
  #adviser: Broker | undefined

  answered(broker: Broker): void {
    this.#ranks.set(addressOf(broker), ++this.#count)
  }

  failed(broker: Broker): void {
    this.#ranks.set(addressOf(broker), -++this.#count)
  }

  /** The metadata were wrong: a broker that has lost its cluster knows no new leaders. Others are asked first. */
  doubtMetadata(): void {
    if (this.#adviser !== undefined) this.failed(this.#adviser)
    this.#adviser = undefined
  }

  gaveMetadata(broker: Broker): void {
    this.#adviser = broker
  }

  /** First those that answered, the latest before the others; then the unknown ones; then those that failed. */
  sort(brokers: ReadonlyArray<Broker>): Array<Broker> {
    const rank = (broker: Broker) => this.#ranks.get(addressOf(broker)) ?? 0
    return [...brokers].sort((a, b) => rank(b) - rank(a))
  }
}

export interface Limits {
  /** How long a broker may take to give the first answer on a connection, in milliseconds. */
  readonly connectTimeout: number
  /** How long it may take to answer a request, in milliseconds. */
  readonly requestTimeout: number
}

/**
 * From here on, a connection of the pool counts as made when the broker has answered on it, and the brokers that
 * answer are asked first.
 */
export const watch = (pool: ConnectionPool, answers: Answers, limits: Limits): void => {
  const lines = new Map<string, Line>()
  // Emitted before anybody gets the connection
  pool.on("connect", ({ broker, connection }) => {
    lines.set(addressOf(broker), new Line(broker, connection, answers, limits))
  })
  pool.on("failed", ({ broker }) => answers.failed(broker))
  const get: (broker: Broker, callback: Callback<Connection>) => void = pool.get.bind(pool)
  pool.get = withPromise<Broker, Connection>((broker, callback) =>
    get(broker, (error, connection) => {
      if (error !== null) return callback(error)
      const line = lines.get(addressOf(broker))!
      line.whenProven((error) => error === null ? callback(null, line.limit(connection!)) : callback(error))
    })
  )
  const getFirst: (brokers: Array<Broker>, callback: Callback<Connection>) => void = pool.getFirstAvailable.bind(pool)
  pool.getFirstAvailable = withPromise<Array<Broker>, Connection>((brokers, callback) =>
    getFirst(answers.sort(brokers), callback)
  )
}

// --- internal ---

const addressOf = ({ host, port }: Broker): string => `${host}:${port}`

/** A function of the client in both of its forms. */
const withPromise = <A, B>(run: (a: A, callback: Callback<B>) => void) => {
  function both(a: A): Promise<B>
  function both(a: A, callback: Callback<B>): void
  function both(a: A, callback?: Callback<B>): Promise<B> | void {
    if (callback !== undefined) return run(a, callback)
    return new Promise((resolve, reject) => run(a, (error, value) => error === null ? resolve(value!) : reject(error)))
  }
  return both
}

const metadata = 3

/** JoinGroup and SyncGroup: answered when the other members of the group have come, whenever that is. */
const groupWide: ReadonlySet<number> = new Set([11, 14])

/** A connection, and what its broker has answered on it. */
class Line {
  readonly #broker: Broker
  readonly #connection: Connection
  readonly #answers: Answers
  readonly #limits: Limits
  /** Undefined until the broker has answered for the first time; an error where it has not in time. */
  #proof: Error | null | undefined
  #waiting: Array<(error: Error | null) => void> = []
  /** Requests to which nothing that came later is answered first. */
  #groupWide = 0

  constructor(broker: Broker, connection: Connection, answers: Answers, limits: Limits) {
    this.#broker = broker
    this.#connection = connection
    this.#answers = answers
    this.#limits = limits
    const line = this.#limited(connection, limits.connectTimeout)
    apiVersionsV3.api(line, clientSoftwareName, clientSoftwareVersion, (error: Error | null) => {
      // A refusal is an answer
      this.#proof = error === null || error instanceof ResponseError ? null : error
      for (const waiting of this.#waiting.splice(0)) waiting(this.#proof)
    })
  }

  /** Waits for the first answer. */
  whenProven(callback: (error: Error | null) => void): void {
    if (this.#proof === undefined) this.#waiting.push(callback)
    else callback(this.#proof)
  }

  /** The connection with all that a request uses of it. Where an answer does not come in time, it is closed. */
  limit(connection: Connection): Connection {
    return this.#limited(connection, this.#limits.requestTimeout)
  }

  #limited(connection: Connection, timeout: number): Connection {
    const send: Connection["send"] = (apiKey, version, payload, parse, requestTags, responseTags, callback) => {
      const isGroupWide = groupWide.has(apiKey)
      if (isGroupWide) this.#groupWide++
      let isLate = false
      const expire = () => {
        if (this.#groupWide > 0) {
          timer = setTimeout(expire, timeout)
          return
        }
        isLate = true
        this.#answers.failed(this.#broker)
        // Everything that waits for an answer on it fails
        this.#connection.socket?.destroy()
      }
      let timer = isGroupWide ? undefined : setTimeout(expire, timeout)
      connection.send(apiKey, version, payload, parse, requestTags, responseTags, (failure, value) => {
        clearTimeout(timer)
        if (isGroupWide) this.#groupWide--
        const [error, result] = apiKey === metadata ? withoutLeaders(failure, value) : [failure, value]
        if (error === null) {
          this.#answers.answered(this.#broker)
          if (apiKey === metadata) this.#answers.gaveMetadata(this.#broker)
        } else if (error instanceof TimeoutError) {
          this.#answers.failed(this.#broker)
        }
        // Not a timeout of the client: only after a broken connection does it look for another coordinator
        if (isLate) callback(new NetworkError(`${addressOf(this.#broker)} has not answered within ${timeout} ms`))
        else callback(error, result)
      })
    }
    return { send } as Connection
  }
}

/** An answer in which nothing but partitions fail is an answer: those partitions have no leader now. */
const withoutLeaders = <A>(failure: Error | null, value: A | undefined): readonly [Error | null, A | undefined] => {
  const response = failure instanceof ResponseError && failure.errors.every(isOfPartition)
    // What the parser of the request has made
    ? (failure as { readonly response?: A }).response
    : undefined
  return response === undefined ? [failure, value] : [null, response]
}

const isOfPartition = (error: unknown): boolean =>
  error instanceof ProtocolError && /^\/topics\/\d+\/partitions\//.test(String(error["path"]))
