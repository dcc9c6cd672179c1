/** Holds the messages of a retry topic back until they are due. */
import { decodeRetry, retryHeaderPrefix } from "@event-flow/core/BrokerLayer"
import { headerValues, type Message } from "@event-flow/core/Message"
import type { FetchedRecord } from "../consume/recordReader.ts"
import { KafkaMessage } from "../message.ts"

export interface Options {
  readonly group: string
  /** The topic of messages that do not say where they come from: somebody put them into the retry topic by hand. */
  readonly source: string
  /** No message waits for longer than this, in milliseconds. */
  readonly delay: number
  readonly now: () => number
  /** Called with the due time of the first message when it is asked for too early. */
  readonly onHeld: (until: number) => void
}

/** One for each partition. */
export class Hold {
  readonly #options: Options
  /** The record that is held, and until when. */
  #head: FetchedRecord | undefined
  #until = 0

  constructor(options: Options) {
    this.#options = options
  }

  /** The due time of the first message, once it was asked for too early. */
  get until(): number | undefined {
    return this.#head === undefined ? undefined : this.#until
  }

  /** Whether a record belongs to another group that shares the topic. */
  isOfOthers(record: FetchedRecord): boolean {
    const group = headerValues(new KafkaMessage(this.#options.source, record), retryHeaderPrefix + "group").at(-1)
    return group !== undefined && group !== this.#options.group
  }

  /** Whether the first record of the partition may be delivered. */
  isDue(record: FetchedRecord): boolean {
    const { delay, group, now, onHeld, source } = this.#options
    if (record !== this.#head) {
      this.#head = record
      this.#until = decodeRetry(new KafkaMessage(source, record), group)?.due ?? 0
    }
    const time = now()
    // It was published before now, whatever the clock said that wrote the header
    this.#until = Math.min(this.#until, time + delay)
    if (this.#until <= time) {
      this.#head = undefined
      return true
    }
    onHeld(this.#until)
    return false
  }

  /** Forgets the record that is held. */
  clear(): void {
    this.#head = undefined
  }

  /** The message as it was in its first topic, and where it lay there. */
  restore(
    record: FetchedRecord,
    place: Readonly<Record<string, string>>
  ): { readonly message: Message; readonly origin: Readonly<Record<string, string>> } {
    const { group, source } = this.#options
    const message = new KafkaMessage(source, record)
    const postponed = decodeRetry(message, group)
    return postponed === undefined
      ? { message, origin: place }
      : {
        message: new KafkaMessage(postponed.topic, record),
        origin: { ...postponed.origin, topic: postponed.topic }
      }
  }
}
