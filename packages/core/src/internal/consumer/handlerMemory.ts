/** Which handlers of a consumed event have succeeded: they do not run again when another one has failed. */
import type * as Event from "../../Event.ts"
import type { CountedHandler } from "../dispatch/handlerTable.ts"
import type { Memory } from "../dispatch/ways.ts"

/** In place of what a handler collected that the message is not for. */
const notMeant: ReadonlyArray<Event.Any> = []

const none: ReadonlyArray<CountedHandler> = []

/** What is remembered of a delivery that waits. */
export type Remembered = ReadonlyArray<ReadonlyArray<Event.Any> | undefined>

/** That of one worker: nothing is allocated for a delivery whose handlers all succeed. */
export class HandlerMemory implements Memory {
  /** Whether the handlers of an attempt succeed together or not at all: those of an inbox do. */
  readonly #isAtomic: boolean
  /** The names of the handlers that the message is for; undefined: all. */
  readonly #chosen: () => ReadonlyArray<string> | undefined
  #handlers: ReadonlyArray<CountedHandler> = none
  /** What each handler has collected, by its place; undefined: it has not succeeded. */
  #collected: Array<ReadonlyArray<Event.Any> | undefined> = []
  #isFirst = true
  /** The handler that failed last. */
  failed: string | undefined = undefined

  constructor(isAtomic: boolean, chosen: () => ReadonlyArray<string> | undefined) {
    this.#isAtomic = isAtomic
    this.#chosen = chosen
  }

  /** For the next delivery. */
  clear(): void {
    this.#handlers = none
    this.#isFirst = true
    this.failed = undefined
  }

  save(): Remembered {
    return this.#isFirst ? [] : this.#collected.slice(0, this.#handlers.length)
  }

  restore(remembered: Remembered): void {
    this.#collected = remembered.slice()
    this.#isFirst = remembered.length === 0
  }

  begin(handlers: ReadonlyArray<CountedHandler>): void {
    this.#handlers = handlers
    if (!this.#isFirst && !this.#isAtomic) return
    // In place: an array that is emptied gets new memory with its next element
    for (let index = 0; index < handlers.length; index++) this.#collected[index] = undefined
    this.#isFirst = true
    // One handler is always meant
    const chosen = handlers.length === 1 ? undefined : this.#chosen()
    const isChosen = ({ definition }: CountedHandler): boolean => chosen!.includes(definition.name)
    // Names that are not known, or not any more, must not have the message pass unhandled
    if (chosen === undefined || !handlers.some(isChosen)) return
    for (const [index, handler] of handlers.entries()) {
      if (!isChosen(handler)) this.#collected[index] = notMeant
    }
    this.#isFirst = false
  }

  /** What a handler that need not run again has collected. */
  collectedBy(index: number): ReadonlyArray<Event.Any> | undefined {
    return this.#isFirst ? undefined : this.#collected[index]
  }

  succeeded(index: number, events: ReadonlyArray<Event.Any>): void {
    this.#collected[index] = events
  }

  /** The attempt has failed: the next one is another. */
  attemptFailed(): void {
    if (this.#handlers.length > 0) this.#isFirst = false
  }

  failedAt(index: number): void {
    this.failed = this.#handlers[index]!.definition.name
  }

  /**
   * The handlers that are to run when the message comes again: those that have not
   * succeeded, or whose follow-ups are not all done.
   */
  get toRun(): ReadonlyArray<string> {
    return this.#handlers.filter((_, index) => {
      const collected = this.#collected[index]
      return collected !== notMeant && (this.#isAtomic || collected?.length !== 0)
    }).map(({ definition }) => definition.name)
  }
}
