/**
 * The order of publishes that run side by side: those that share a key of a
 * topic follow each other, as they came up (F12).
 */
import type * as Arr from "effect/Array"
import * as NotificationEvent from "../../NotificationEvent.ts"

export type Batch = Arr.NonEmptyReadonlyArray<NotificationEvent.Any>

/** A publish and those that wait for it. */
export class Turn {
  readonly batch: Batch
  readonly keys: ReadonlySet<string>
  readonly followers: Array<Turn> = []
  /** How many earlier publishes it waits for. */
  waitsFor = 0

  constructor(batch: Batch) {
    this.batch = batch
    this.keys = keysOf(batch)
  }
}

export class PublishOrder {
  /** The last publish of each key, while it is not done. */
  readonly #last = new Map<string, Turn>()

  /** Takes up a publish: it may run at once if it waits for none. */
  enter(batch: Batch): Turn {
    const turn = new Turn(batch)
    const earlier = new Set<Turn>()
    for (const key of turn.keys) {
      const last = this.#last.get(key)
      if (last !== undefined) earlier.add(last)
      this.#last.set(key, turn)
    }
    for (const last of earlier) last.followers.push(turn)
    turn.waitsFor = earlier.size
    return turn
  }

  /** A publish is done; gives those that may run now. */
  done(turn: Turn): ReadonlyArray<Turn> {
    for (const key of turn.keys) {
      if (this.#last.get(key) === turn) this.#last.delete(key)
    }
    return turn.followers.filter((follower) => --follower.waitsFor === 0)
  }
}

/** No order is promised for what has no key. */
const keysOf = (batch: Batch): ReadonlySet<string> => {
  const keys = new Set<string>()
  for (const event of batch) {
    const { key, topic } = NotificationEvent.classOf(event).route
    // The function takes events of this class
    const own = key?.(event as never)
    if (own !== undefined) keys.add(`${topic}\u0000${own}`)
  }
  return keys
}
