/** What a subscription hands out: the currently assigned partitions, and the in-flight limit that they share. */
import * as BrokerLayer from "@event-flow/core/BrokerLayer"
import type * as Subscriber from "@event-flow/core/Subscriber"
import * as Arr from "effect/Array"
import * as Effect from "effect/Effect"
import type * as Scheduler from "effect/Scheduler"
import { onceATurn } from "../onceATurn.ts"
import type { AssignedPartition, Owner } from "./assignedPartition.ts"

/** The most deliveries of one `take`, so that handlers begin before all records are read. */
const maxTake = 500

export class Intake {
  readonly #maxInFlight: number
  readonly #waiters = new BrokerLayer.Waiters()
  readonly #owner: Owner
  readonly #wakeSoon: () => void
  #partitions: Array<AssignedPartition> = []
  /** The partition that the next `take` begins with. */
  #next = 0
  #inFlight = 0
  #failure: Subscriber.SubscribeError | undefined
  #isSuspended = false
  /** Called when a partition has room again. */
  onRoom: () => void = () => undefined
  /** Called with each acknowledgement. */
  onDone: () => void = () => undefined
  #onQuiet: (() => void) | undefined

  constructor(options: {
    readonly maxInFlight: number
    readonly scheduler: Scheduler.Scheduler
    readonly onBlocked: Owner["onBlocked"]
  }) {
    this.#maxInFlight = options.maxInFlight
    this.#wakeSoon = onceATurn(options.scheduler, () => this.wake())
    this.#owner = {
      onReturned: (_partition, isDone) => {
        this.#inFlight--
        if (isDone) this.onDone()
        if (this.#onQuiet !== undefined && this.outstanding === 0) this.#onQuiet()
        // A fiber may wait for the room that this makes
        if (!this.#waiters.isEmpty) this.#wakeSoon()
      },
      onBlocked: options.onBlocked
    }
  }

  get owner(): Owner {
    return this.#owner
  }

  get partitions(): ReadonlyArray<AssignedPartition> {
    return this.#partitions
  }

  assign(partitions: ReadonlyArray<AssignedPartition>): void {
    this.#partitions = [...partitions]
    this.#next = 0
    this.wake()
  }

  /** Nothing is delivered, and nothing given up, while nobody knows whether the partitions are still ours. */
  suspend(isSuspended: boolean): void {
    if (this.#isSuspended === isSuspended) return
    this.#isSuspended = isSuspended
    this.wake()
  }

  get isSuspended(): boolean {
    return this.#isSuspended
  }

  /** Nothing more is delivered. Handlers that run may end. */
  revoke(): void {
    for (const partition of this.#partitions) partition.revoke()
  }

  /** Deliveries that are not acknowledged must no longer be handled. */
  expel(): void {
    for (const partition of this.#partitions) partition.expel()
  }

  get outstanding(): number {
    let count = 0
    for (const partition of this.#partitions) count += partition.outstanding
    return count
  }

  /** Waits until every delivery was acknowledged or given back. */
  readonly quiet: Effect.Effect<void> = Effect.callback((resume) => {
    if (this.outstanding === 0) return resume(Effect.void)
    this.#onQuiet = () => resume(Effect.void)
    return Effect.sync(() => {
      this.#onQuiet = undefined
    })
  })

  /** Acknowledgements no longer count. */
  forget(): void {
    for (const partition of this.#partitions) {
      this.#inFlight -= partition.outstanding
      partition.forget()
    }
    this.#partitions = []
    this.wake()
  }

  fail(error: Subscriber.SubscribeError): void {
    this.#failure ??= error
    this.wake()
  }

  wake(): void {
    this.#waiters.wakeAll()
  }

  readonly take: Effect.Effect<Arr.NonEmptyReadonlyArray<Subscriber.Delivery>, Subscriber.SubscribeError> = this
    .#waiters.until(() => {
      const deliveries = this.#collect()
      if (Arr.isArrayNonEmpty(deliveries)) return Effect.succeed(deliveries)
      return this.#failure === undefined ? undefined : Effect.fail(this.#failure)
    })

  // --- internal ---

  #collect(): Array<Subscriber.Delivery> {
    const deliveries: Array<Subscriber.Delivery> = []
    const count = this.#partitions.length
    const room = Math.min(maxTake, this.#maxInFlight - this.#inFlight)
    if (room <= 0 || count === 0 || this.#isSuspended) return deliveries
    const share = Math.max(1, Math.ceil(room / count))
    let left = room
    // Equal shares first, then what is left
    for (let i = 0; i < count * 2 && left > 0; i++) {
      const partition = this.#partitions[(this.#next + i) % count]!
      left -= partition.take(i < count ? Math.min(share, left) : left, deliveries)
    }
    this.#next = (this.#next + 1) % count
    this.#inFlight += room - left
    if (deliveries.length > 0) this.onRoom()
    return deliveries
  }
}
