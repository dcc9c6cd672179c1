/** The messages that a topic keeps, and its groups. */
import * as Message from "../../Message.ts"
import { type Entry, Group } from "./group.ts"

export class Topic {
  readonly name: string
  readonly groups = new Map<string, Group>()
  readonly #retention: number
  #first: Entry | undefined = undefined
  #last: Entry | undefined = undefined
  #nextOffset = 0
  #size = 0
  /** How many entries no group has to acknowledge; none is before `#oldestSettled`. */
  #settled = 0
  #oldestSettled: Entry | undefined = undefined
  /** Whether it dropped a message that no group ever had. */
  hasDroppedUnread = false

  constructor(name: string, retention: number) {
    this.name = name
    this.#retention = retention
  }

  /** Whether there is nothing to remember of it. */
  get isEmpty(): boolean {
    return this.#size === 0 && this.groups.size === 0
  }

  /** The messages kept, the oldest first. */
  *log(): IterableIterator<Entry> {
    for (let entry = this.#first; entry !== undefined; entry = entry.next) yield entry
  }

  append(message: Message.Message): void {
    const entry: Entry = {
      message,
      lane: Message.keyString(message),
      offset: this.#nextOffset++,
      open: 0,
      wasOffered: false,
      previous: this.#last,
      next: undefined
    }
    if (this.#last === undefined) this.#first = entry
    else this.#last.next = entry
    this.#last = entry
    this.#size++
    for (const group of this.groups.values()) group.offer(entry)
    this.#settle(entry)
    this.#trim()
  }

  /** The group of this name. A new one starts with the oldest message kept, an ephemeral one at the end. */
  group(name: string, isEphemeral: boolean): Group {
    const existing = this.groups.get(name)
    if (existing !== undefined) return existing
    const group = new Group(name, isEphemeral)
    this.groups.set(name, group)
    if (!isEphemeral) {
      for (const entry of this.log()) group.offer(entry)
      this.#settled = 0
      this.#oldestSettled = undefined
    }
    return group
  }

  acknowledged(group: Group, entry: Entry): void {
    group.acknowledged(entry)
    this.#settle(entry)
    this.#trim()
  }

  /** Forgets a group without consumers, and what it had not acknowledged. */
  forget(group: Group): void {
    this.groups.delete(group.name)
    for (const entry of group.clear()) this.#settle(entry)
    this.#trim()
  }

  #settle(entry: Entry): void {
    if (entry.open > 0) return
    this.#settled++
    if (this.#oldestSettled === undefined || entry.offset < this.#oldestSettled.offset) this.#oldestSettled = entry
  }

  /** Drops the oldest settled messages beyond what is retained, those behind an unsettled one too. */
  #trim(): void {
    while (this.#size > this.#retention && this.#settled > 0) {
      let entry = this.#oldestSettled!
      while (entry.open > 0) entry = entry.next!
      this.#oldestSettled = entry.next
      this.#settled--
      if (!entry.wasOffered) this.hasDroppedUnread = true
      this.#remove(entry)
    }
  }

  #remove(entry: Entry): void {
    const { next, previous } = entry
    if (previous === undefined) this.#first = next
    else previous.next = next
    if (next === undefined) this.#last = previous
    else next.previous = previous
    // Whoever still has its delivery must not hold on to the rest of the log
    entry.previous = entry.next = undefined
    this.#size--
  }
}
