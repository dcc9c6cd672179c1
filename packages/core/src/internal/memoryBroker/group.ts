/** What one consumer group has of one topic. */
import * as MutableList from "effect/MutableList"
import type { Message } from "../../Message.ts"

/** A message as its topic keeps it, in a list. */
export interface Entry {
  readonly message: Message
  readonly lane: string | undefined
  readonly offset: number
  /** How many groups have it and have not acknowledged it. */
  open: number
  /** Whether any group ever had it. */
  wasOffered: boolean
  previous: Entry | undefined
  next: Entry | undefined
}

/** One delivery of an entry to a group, made or still to be made. */
export interface Pending {
  readonly entry: Entry
  readonly attempt: number
}

export class Group {
  readonly name: string
  readonly isEphemeral: boolean
  readonly #ready = MutableList.make<Pending>()
  /** Lanes with a message that is ready or unacknowledged, and the messages that wait behind it. */
  readonly #lanes = new Map<string, MutableList.MutableList<Pending>>()
  /** How many entries it has not acknowledged. */
  pending = 0
  consumers = 0

  constructor(name: string, isEphemeral: boolean) {
    this.name = name
    this.isEphemeral = isEphemeral
  }

  offer(entry: Entry): void {
    entry.open++
    entry.wasOffered = true
    this.pending++
    const pending: Pending = { entry, attempt: 1 }
    if (entry.lane === undefined) return MutableList.append(this.#ready, pending)
    const behind = this.#lanes.get(entry.lane)
    if (behind !== undefined) return MutableList.append(behind, pending)
    this.#lanes.set(entry.lane, MutableList.make())
    MutableList.append(this.#ready, pending)
  }

  take(): Pending | undefined {
    return takeFrom(this.#ready)
  }

  /** To be delivered again, before all that waits. A copy: what an old delivery does must not settle the new one. */
  giveBack({ attempt, entry }: Pending): void {
    MutableList.prepend(this.#ready, { entry, attempt: attempt + 1 })
  }

  acknowledged(entry: Entry): void {
    entry.open--
    this.pending--
    if (entry.lane === undefined) return
    const behind = this.#lanes.get(entry.lane)
    const next = behind === undefined ? undefined : takeFrom(behind)
    if (next === undefined) this.#lanes.delete(entry.lane)
    else MutableList.append(this.#ready, next)
  }

  /** Lets go of all that waits, and gives the entries. */
  clear(): ReadonlyArray<Entry> {
    const entries: Array<Entry> = []
    for (const list of [this.#ready, ...this.#lanes.values()]) {
      for (const { entry } of MutableList.takeAll(list)) {
        entry.open--
        entries.push(entry)
      }
    }
    this.#lanes.clear()
    this.pending = 0
    return entries
  }
}

const takeFrom = (list: MutableList.MutableList<Pending>): Pending | undefined => {
  const pending = MutableList.take(list)
  return pending === MutableList.Empty ? undefined : pending
}
