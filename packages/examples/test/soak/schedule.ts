/** The faults of a soak: which, when and for how long. A pure function of its options, the seed above all. */
import { Array, Effect, Random } from "effect"

export const processes = ["shop", "relay-1", "relay-2", "totals-1", "totals-2"] as const
export type Process = (typeof processes)[number]

export const servers = ["database", "broker"] as const
export type Server = (typeof servers)[number]

/** The connections of a process to a server, which go through a proxy of their own. */
export type Link = `${Process}>${Server}`

export const links: ReadonlyArray<Link> = processes.flatMap((process) =>
  process === "shop" ? [`${process}>database`] as const : servers.map((server) => `${process}>${server}` as const)
)

export const serverOf = (link: Link): Server => link.split(">")[1] as Server

/** What is done, to what. */
export type Action =
  /** SIGKILL; SIGTERM, which lets it end what it does: both are started again. SIGSTOP until SIGCONT. */
  | { readonly kind: "kill" | "terminate" | "freeze"; readonly target: Process }
  /**
   * No bytes for a while; none any more on the open connections, whose server notices it after a while; connections
   * broken.
   */
  | { readonly kind: "stall" | "silence" | "cut"; readonly target: Link }
  /** SIGKILL; an orderly restart; no bytes for a while to and from all processes. */
  | { readonly kind: "crash" | "restart" | "isolate"; readonly target: Server }
  /** It takes no messages for a while: a queue that nobody consumes is full, or a topic has too few replicas. */
  | { readonly kind: "refuse"; readonly target: "broker" }
  /** Its disk has no room for a while. */
  | { readonly kind: "fill"; readonly target: Server }

export type Kind = Action["kind"]

export type Fault = Action & {
  /** Milliseconds from the beginning. */
  readonly at: number
  /** Milliseconds until it is lifted. */
  readonly lasts: number
}

export interface Options {
  readonly seed: string
  readonly minutes: number
  readonly faultsPerMinute: number
}

/** How many faults make a round. The end of each round is calm. */
export const roundLength = 3

/** The times between which faults may begin, and the calm at the end of each round. In milliseconds. */
export const slotOf = ({ faultsPerMinute }: Pick<Options, "faultsPerMinute">): number =>
  Math.floor(60_000 / faultsPerMinute)
export const calmOf = (options: Pick<Options, "faultsPerMinute">): number => Math.floor(slotOf(options) / 3)

export const make = (options: Options): ReadonlyArray<Fault> =>
  Effect.runSync(Random.withSeed(faults(options), options.seed))

export const describe = ({ at, kind, lasts, target }: Fault): string =>
  `${clock(at)} ${kind} ${target}${lasts === 0 ? "" : ` for ${(lasts / 1000).toFixed(1)} s`}`

/** Minutes and seconds. */
export const clock = (millis: number): string => {
  const seconds = Math.floor(millis / 1000)
  return [Math.floor(seconds / 60), seconds % 60].map((number) => String(number).padStart(2, "0")).join(":")
}

// --- internal ---

interface Card {
  readonly targets: ReadonlyArray<string>
  /** The shortest and the longest time in seconds. */
  readonly lasts: readonly [number, number]
  /** How many there are in a deck. */
  readonly count: number
}

/** Longer than the timeouts of the clients, or shorter. */
const outage = [3, 15] as const
const downtime = [0.5, 5] as const

const cards: { readonly [K in Kind]: Card } = {
  kill: { targets: processes, lasts: downtime, count: 3 },
  terminate: { targets: processes, lasts: downtime, count: 2 },
  freeze: { targets: processes, lasts: outage, count: 2 },
  stall: { targets: links, lasts: outage, count: 2 },
  silence: { targets: links, lasts: outage, count: 2 },
  cut: { targets: links, lasts: [0, 0], count: 1 },
  crash: { targets: servers, lasts: downtime, count: 2 },
  restart: { targets: servers, lasts: downtime, count: 1 },
  isolate: { targets: servers, lasts: outage, count: 1 },
  refuse: { targets: ["broker"], lasts: outage, count: 1 },
  fill: { targets: servers, lasts: outage, count: 1 }
}

const deck: ReadonlyArray<Kind> = Object.entries(cards).flatMap(([kind, { count }]) =>
  Array.replicate(kind as Kind, count)
)

/** What no other fault may touch meanwhile. */
const touched = ({ kind, target }: { readonly kind: Kind; readonly target: string }): ReadonlyArray<string> =>
  kind === "isolate" || kind === "refuse" ? [target, ...links.filter((link) => serverOf(link) === target)] : [target]

const faults = Effect.fnUntraced(function*(options: Options) {
  const slot = slotOf(options)
  const end = options.minutes * 60_000
  const made: Array<Fault> = []
  let rest: ReadonlyArray<Kind> = []
  for (let n = 0; (n + 1) * slot <= end; n++) {
    if (rest.length === 0) rest = yield* Random.shuffle(deck)
    const [kind, ...others] = rest as [Kind, ...Array<Kind>]
    rest = others
    const { lasts: [shortest, longest], targets } = cards[kind]
    const at = Math.ceil((n + (yield* Random.nextBetween(0, 0.4))) * slot)
    const endOfRound = Math.min((n - n % roundLength + roundLength) * slot, end)
    const wanted = 1000 * (yield* Random.nextBetween(shortest, longest))
    const lasts = Math.floor(Math.min(wanted, endOfRound - calmOf(options) - at))
    const busy = new Set(made.filter((fault) => fault.at + fault.lasts >= at).flatMap(touched))
    const free = targets.filter((target) => touched({ kind, target }).every((thing) => !busy.has(thing)))
    // A kind is only given to targets of its own
    if (free.length > 0) made.push({ at, lasts, kind, target: yield* Random.choice(free) } as Fault)
  }
  return made
})
