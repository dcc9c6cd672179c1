/** Random trees of events and follow-ups, and what a processor makes of them, by a model. */
import { Schema } from "effect"

// --- random trees ---

/** What handling or publishing something comes to. */
const Outcome = Schema.Literals(["ok", "ok", "ok", "ok", "fails", "dies"])

/**
 * A tree as a flat list, which shrinks well: `parent` picks one of the domain events before it (or none), `child of`
 * which of that event's two handlers collects it.
 */
export const Shape = Schema.Array(Schema.Struct({
  kind: Schema.Literals(["domain", "domain", "notification"]),
  parent: Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 40 })),
  ofSecond: Schema.Boolean,
  first: Outcome,
  second: Outcome,
  rank: Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 1000 }))
})).check(Schema.isMinLength(1), Schema.isMaxLength(12))
export type Shape = typeof Shape.Type

export interface Work {
  readonly name: string
  readonly millis: number
  readonly outcome: "ok" | "fails" | "dies"
}

export interface Node {
  readonly id: number
  readonly kind: "domain" | "notification"
  /** Of a notification: publishes that share a key follow each other. */
  readonly key: string | undefined
  /** One for each handler, or the publish. */
  readonly work: readonly [Work, Work]
  readonly followUps: readonly [Array<Node>, Array<Node>]
}

/**
 * Durations are distinct powers of two: the times at which things end are sums of different ones, so no two things end
 * at the same time and the model need not guess which comes first. All are even: an odd time is nobody's end.
 */
export const grow = (
  shape: Shape,
  isInstant: boolean
): { readonly roots: Array<Node>; readonly nodes: Array<Node> } => {
  const ranks = shape.map((_, i) => i).sort((a, b) => shape[a]!.rank - shape[b]!.rank || a - b)
  const roots: Array<Node> = []
  const nodes: Array<Node> = []
  shape.forEach((spec, id) => {
    const millis = (handler: number) => isInstant ? 0 : 2 ** (1 + 2 * ranks.indexOf(id) + handler)
    const node: Node = {
      id,
      kind: spec.kind,
      key: [undefined, "one", "other"][spec.rank % 3],
      work: [
        { name: `${id}a`, millis: millis(0), outcome: spec.first },
        { name: `${id}b`, millis: millis(1), outcome: spec.second }
      ],
      followUps: [[], []]
    }
    const parents = nodes.filter((node) => node.kind === "domain")
    const parent = parents[spec.parent % (parents.length + 1)]
    if (parent === undefined) roots.push(node)
    else parent.followUps[spec.ofSecond ? 1 : 0].push(node)
    nodes.push(node)
  })
  return { roots, nodes }
}

export const forever = 2 ** 40

// --- the model ---

export interface Config {
  readonly concurrency: number
  readonly onFailure: "failFast" | "accumulate" | "log"
}

export interface Outline {
  /** What happened, with its time. */
  readonly trace: ReadonlyArray<string>
  /** Names of what failed and of what died, in the order in which they count. */
  readonly failures: ReadonlyArray<string>
  readonly defects: ReadonlyArray<string>
  readonly endsAt: number
}

/** How long the finalizer of something interrupted takes. */
export const cleanUp = 7

type Item = readonly [Node, ...Array<Node>]

/** Adjacent notifications together, domain events apart (F12). */
const items = (nodes: ReadonlyArray<Node>): Array<Item> => {
  const out: Array<[Node, ...Array<Node>]> = []
  for (const node of nodes) {
    const last = out.at(-1)
    if (node.kind === "notification" && last !== undefined && last[0].kind === "notification") last.push(node)
    else out.push([node])
  }
  return out
}

export const publishing = (batch: ReadonlyArray<Node>): Work => ({
  name: batch.map(({ id }) => id).join("+"),
  millis: batch[0]!.work[0].millis,
  outcome: batch.some(({ work }) => work[0].outcome === "dies")
    ? "dies"
    : batch.some(({ work }) => work[0].outcome === "fails")
    ? "fails"
    : "ok"
})

/** The stages of an item: its handlers in order, or its publish. */
const stages = (item: Item): ReadonlyArray<{ readonly work: Work; readonly followUps: ReadonlyArray<Node> }> =>
  item[0].kind === "notification"
    ? [{ work: publishing(item), followUps: [] }]
    : item[0].work.map((work, i) => ({ work, followUps: item[0].followUps[i]! }))

/** A publish that runs or waits for others. */
interface Publish {
  readonly item: Item
  readonly waitsFor: Set<Publish>
}

const shareKey = (one: Item, other: Item): boolean =>
  one.some(({ key }) => key !== undefined && other.some((node) => node.key === key))

/**
 * A queue and `concurrency` places. Sequential processing differs in one point: the next level is put together from
 * all follow-ups of the last one, so notifications of different parents are adjacent.
 */
export const model = (roots: ReadonlyArray<Node>, config: Config, interruptAt = Infinity): Outline => {
  const trace: Array<string> = []
  const failures: Array<string> = []
  const defects: Array<string> = []
  const queue: Array<Item | Publish> = items(roots)
  let level: Array<Node> = []
  let now = 0
  interface Place {
    readonly item: Item
    readonly publish: Publish | undefined
    stage: number
    endsAt: number
    readonly followUps: Array<Node>
  }
  const places: Array<Place> = []
  // What waits for earlier ones takes no place
  let publishes: Array<Publish> = []
  const begin = (place: Place): void => {
    const { work } = stages(place.item)[place.stage]!
    trace.push(`${work.name} starts@${now}`)
    place.endsAt = now + work.millis
  }
  const interruptRest = (): Outline => {
    for (const place of places) trace.push(`${stages(place.item)[place.stage]!.work.name} interrupted@${now}`)
    return { trace, failures, defects, endsAt: places.length === 0 ? now : now + cleanUp }
  }
  const conclude = (): Outline => ({ trace, failures, defects, endsAt: now })
  for (;;) {
    if (config.concurrency === 1 && queue.length === 0 && places.length === 0) {
      queue.push(...items(level))
      level = []
    }
    while (places.length < config.concurrency && queue.length > 0) {
      const next = queue.shift()!
      const item = "item" in next ? next.item : next
      let publish = "item" in next ? next : undefined
      if (publish === undefined && item[0].kind === "notification") {
        publish = { item, waitsFor: new Set(publishes.filter((other) => shareKey(other.item, item))) }
        publishes.push(publish)
        if (publish.waitsFor.size > 0) continue
      }
      const place: Place = { item, publish, stage: 0, endsAt: 0, followUps: [] }
      places.push(place)
      begin(place)
    }
    if (places.length === 0) return conclude()
    const next = places.reduce((a, b) => a.endsAt <= b.endsAt ? a : b)
    if (next.endsAt > interruptAt) {
      now = interruptAt
      return interruptRest()
    }
    now = next.endsAt
    const { followUps, work } = stages(next.item)[next.stage]!
    trace.push(`${work.name} ${work.outcome}@${now}`)
    if (work.outcome === "ok") next.followUps.push(...followUps)
    else {
      ;(work.outcome === "fails" ? failures : defects).push(work.name)
      if (config.onFailure === "failFast") {
        places.splice(places.indexOf(next), 1)
        return interruptRest()
      }
    }
    if (++next.stage < stages(next.item).length) begin(next)
    else {
      places.splice(places.indexOf(next), 1)
      const { publish } = next
      if (publish !== undefined) {
        publishes = publishes.filter((other) => other !== publish)
        queue.push(...publishes.filter(({ waitsFor }) => waitsFor.delete(publish) && waitsFor.size === 0))
      }
      if (config.concurrency === 1) level.push(...next.followUps)
      else queue.push(...items(next.followUps))
    }
  }
}
