/**
 * The definitions of a program as a graph: which command gives rise to which
 * event, which handler handles it, which events follow. It finds what is wrong
 * before anything runs, and draws the flows.
 *
 * **When to use**
 *
 * In a test of the program's definitions, and to keep diagrams in the
 * documentation that follow from the code.
 *
 * **Gotchas**
 *
 * It knows what definitions declare. A command that a handler sends through the
 * mediator is not declared, so a circle through such a send is not seen.
 *
 * **Example** (A test of the wiring)
 *
 * ```ts
 * import { Command, DomainEvent, EventHandler, FlowGraph } from "@event-flow/core"
 * import assert from "node:assert"
 *
 * class Paid extends DomainEvent.Class<Paid>()("Paid", {}) {}
 * class Pay extends Command.Class<Pay>()("Pay", { emits: [Paid] }) {}
 * const Ship = EventHandler.make("Ship", { on: Paid })
 *
 * const report = FlowGraph.check(FlowGraph.make({ commands: [Pay], handlers: [Ship] }))
 * assert(report.isSound, String(report))
 * ```
 *
 * @stability unstable
 * @since 0.1.0
 */
import * as Graph from "effect/Graph"
import * as Option from "effect/Option"
import type * as Command from "./Command.ts"
import type * as DomainEvent from "./DomainEvent.ts"
import * as Event from "./Event.ts"
import type * as EventHandler from "./EventHandler.ts"
import type * as NotificationEvent from "./NotificationEvent.ts"

const TypeId = "~@event-flow/core/FlowGraph"

/**
 * A command or query.
 *
 * @stability unstable
 * @category models
 * @since 0.1.0
 */
export interface CommandNode {
  readonly _tag: "Command"
  readonly name: string
  readonly definition: Command.AnyClass
}

/**
 * A domain event.
 *
 * @stability unstable
 * @category models
 * @since 0.1.0
 */
export interface DomainEventNode {
  readonly _tag: "DomainEvent"
  readonly name: string
  readonly definition: DomainEvent.AnyClass
}

/**
 * A notification event, which travels through a broker.
 *
 * @stability unstable
 * @category models
 * @since 0.1.0
 */
export interface NotificationEventNode {
  readonly _tag: "NotificationEvent"
  readonly name: string
  readonly topic: string
  readonly definition: NotificationEvent.AnyClass
}

/**
 * A handler of an event.
 *
 * @stability unstable
 * @category models
 * @since 0.1.0
 */
export interface HandlerNode {
  readonly _tag: "Handler"
  readonly name: string
  readonly definition: EventHandler.Any
}

/**
 * What a flow is made of.
 *
 * @stability unstable
 * @category models
 * @since 0.1.0
 */
export type Node = CommandNode | DomainEventNode | NotificationEventNode | HandlerNode

/**
 * A step of a flow.
 *
 * - `"Emits"`: from a command or handler to an event that it declares.
 * - `"HandledBy"`: from a domain event to a handler, in process.
 * - `"ConsumedBy"`: from a notification event to a handler, through its topic.
 *
 * @stability unstable
 * @category models
 * @since 0.1.0
 */
export interface Edge {
  readonly kind: "Emits" | "HandledBy" | "ConsumedBy"
  readonly from: Node
  readonly to: Node
}

/**
 * The graph of a program, or of several that share a broker. The order of nodes
 * and edges is that of the definitions.
 *
 * @stability unstable
 * @category models
 * @since 0.1.0
 */
export interface FlowGraph {
  readonly [TypeId]: typeof TypeId
  readonly nodes: ReadonlyArray<Node>
  readonly edges: ReadonlyArray<Edge>
}

/**
 * The graph of these commands, queries and event handlers, with the events that
 * they name.
 *
 * @stability unstable
 * @category constructors
 * @since 0.1.0
 */
export const make = (options: {
  readonly commands?: ReadonlyArray<Command.AnyClass> | undefined
  readonly handlers?: ReadonlyArray<EventHandler.Any> | undefined
}): FlowGraph => {
  const nodes = new Map<Node["definition"], Node>()
  const edges = new Map<Node, Map<Node, Edge>>()

  const node = (definition: Node["definition"], make: () => Node): Node => {
    const known = nodes.get(definition)
    if (known !== undefined) return known
    const created = make()
    nodes.set(definition, created)
    return created
  }
  const connect = (kind: Edge["kind"], from: Node, to: Node): void => {
    const out = edges.get(from) ?? new Map<Node, Edge>()
    edges.set(from, out)
    if (!out.has(to)) out.set(to, { kind, from, to })
  }
  const emits = (from: Node, events: ReadonlyArray<Event.AnyClass>): void => {
    for (const event of events) connect("Emits", from, node(event, () => eventNode(event)))
  }

  for (const definition of options.commands ?? []) {
    emits(node(definition, () => ({ _tag: "Command", name: definition.tag, definition })), definition.emits)
  }
  for (const definition of options.handlers ?? []) {
    const on = node(definition.on, () => eventNode(definition.on))
    const handler = node(definition, () => ({ _tag: "Handler", name: definition.name, definition }))
    connect(on._tag === "NotificationEvent" ? "ConsumedBy" : "HandledBy", on, handler)
    emits(handler, definition.emits)
  }

  const list = Array.from(nodes.values())
  return {
    [TypeId]: TypeId,
    nodes: list,
    edges: list.flatMap((from) => Array.from(edges.get(from)?.values() ?? []))
  }
}

/**
 * Events that lead back to themselves.
 *
 * @stability unstable
 * @category models
 * @since 0.1.0
 */
export interface Cycle {
  /** Events and handlers in turn, starting with an event; the last one leads to the first. */
  readonly nodes: ReadonlyArray<Node>
  /**
   * Whether messages of a broker are part of it. Such a cycle does not end in
   * `CascadeTooDeep`: it runs for ever, over all programs that take part.
   */
  readonly isThroughBroker: boolean
  /** `"UserJoined → Greet → UserJoined"`; a step through a broker is `"⇢"`. */
  readonly path: string
}

/**
 * The cycles of a graph: for every step that lies on one, a shortest cycle
 * through it. So none is missed where there is one, every step to blame is
 * shown, and the number of cycles is at most that of the steps.
 *
 * @stability unstable
 * @category checks
 * @since 0.1.0
 */
export const cycles = (graph: FlowGraph): ReadonlyArray<Cycle> => {
  const indexed = toIndexed(graph)
  const component = new Map<Graph.NodeIndex, number>()
  for (const [i, members] of Graph.stronglyConnectedComponents(indexed.graph).entries()) {
    for (const index of members) component.set(index, i)
  }
  const found = new Map<string, Cycle>()
  for (const edge of graph.edges) {
    const source = indexed.indexOf(edge.from)
    const target = indexed.indexOf(edge.to)
    if (component.get(source) !== component.get(target)) continue
    const back = Graph.dijkstra(indexed.graph, { source: target, target: source, cost: () => 1 })
    if (Option.isNone(back)) continue
    // From the target to the source, which the edge closes
    const indices = startAtFirstEvent(graph, back.value.path)
    const key = indices.join()
    if (!found.has(key)) found.set(key, toCycle(indices.map((index) => graph.nodes[index]!)))
  }
  return Array.from(found.values())
}

/**
 * The handlers that no flow reaches: neither from a command, nor from a
 * notification event of another program. Nothing here emits their event, or
 * only handlers that are not reached themselves.
 *
 * @stability unstable
 * @category checks
 * @since 0.1.0
 */
export const unreachableHandlers = (graph: FlowGraph): ReadonlyArray<HandlerNode> => {
  const reached = reachableFrom(graph, roots(graph))
  return graph.nodes.filter(isHandler).filter((handler) => !reached.has(handler))
}

/**
 * The handlers of notification events that nothing here emits: those come from
 * other programs.
 *
 * @stability unstable
 * @category checks
 * @since 0.1.0
 */
export const externalHandlers = (graph: FlowGraph): ReadonlyArray<HandlerNode> => {
  const external = new Set<Node>(externalEvents(graph))
  return graph.edges.flatMap(({ from, to }) => to._tag === "Handler" && external.has(from) ? [to] : [])
}

/**
 * The domain events that are emitted here and handled by nobody. Collecting one
 * logs a warning (F7).
 *
 * @stability unstable
 * @category checks
 * @since 0.1.0
 */
export const unhandledEvents = (graph: FlowGraph): ReadonlyArray<DomainEventNode> => {
  const handled = new Set(graph.edges.map((edge) => edge.from))
  return graph.nodes.filter((node) => node._tag === "DomainEvent").filter((node) => !handled.has(node))
}

/**
 * Different definitions of one kind with one name: two commands, two events, or
 * two handlers. Handlers and events of one name are an error when their
 * `EventMap` is built (F14); of two commands the later layer would win.
 *
 * @stability unstable
 * @category checks
 * @since 0.1.0
 */
export const duplicates = (graph: FlowGraph): ReadonlyArray<Node> => {
  const seen = new Set<string>()
  return graph.nodes.filter((node) => {
    const key = `${describeKind(node)} ${node.name}`
    if (seen.has(key)) return true
    seen.add(key)
    return false
  })
}

/**
 * What `check` has found. `String(report)` is readable.
 *
 * @stability unstable
 * @category models
 * @since 0.1.0
 */
export interface Report {
  readonly cycles: ReadonlyArray<Cycle>
  readonly unreachableHandlers: ReadonlyArray<HandlerNode>
  readonly unhandledEvents: ReadonlyArray<DomainEventNode>
  readonly duplicates: ReadonlyArray<Node>
  /** For information: these depend on what other programs publish. */
  readonly externalHandlers: ReadonlyArray<HandlerNode>
  /** No finding but external handlers. */
  readonly isSound: boolean
  readonly toString: () => string
}

/**
 * All findings in one report.
 *
 * @stability unstable
 * @category checks
 * @since 0.1.0
 */
export const check = (graph: FlowGraph): Report => {
  const findings = {
    cycles: cycles(graph),
    unreachableHandlers: unreachableHandlers(graph),
    unhandledEvents: unhandledEvents(graph),
    duplicates: duplicates(graph),
    externalHandlers: externalHandlers(graph)
  }
  return {
    ...findings,
    isSound: findings.cycles.length + findings.unreachableHandlers.length + findings.unhandledEvents.length +
        findings.duplicates.length === 0,
    toString: () => formatReport(graph, findings)
  }
}

/**
 * A Mermaid flowchart of one flow: what a command leads to, or a notification
 * event that comes from another program. Without a root: of the whole graph,
 * which is hard to read when it is large.
 *
 * **Details**
 *
 * Commands are stadiums, domain events rounded boxes, notification events
 * hexagons with their topic, handlers plain boxes; a step through a broker is a
 * dotted arrow. Identifiers follow from names, and the order from the
 * definitions, so that the diagram changes only with what it shows.
 *
 * @stability unstable
 * @category rendering
 * @since 0.1.0
 */
export const toMermaid = (graph: FlowGraph, root?: Command.AnyClass | NotificationEvent.AnyClass): string => {
  if (root === undefined) return mermaid(graph, new Set(graph.nodes))
  const node = graph.nodes.find((node) => node.definition === root)
  if (node === undefined) throw new Error(`"${root.tag}" is not in this FlowGraph: list it in FlowGraph.make`)
  return mermaid(graph, reachableFrom(graph, [node]))
}

/**
 * The flowcharts of all flows: by the tag of each command, and of each
 * notification event that comes from another program.
 *
 * @stability unstable
 * @category rendering
 * @since 0.1.0
 */
export const toMermaidAll = (graph: FlowGraph): Readonly<Record<string, string>> =>
  Object.fromEntries(roots(graph).map((root) => [root.name, mermaid(graph, reachableFrom(graph, [root]))]))

// --- internal ---

const eventNode = (event: Event.AnyClass): DomainEventNode | NotificationEventNode =>
  isNotification(event)
    ? { _tag: "NotificationEvent", name: event.tag, topic: event.route.topic, definition: event }
    : { _tag: "DomainEvent", name: event.tag, definition: event }

const isNotification = (event: Event.AnyClass): event is NotificationEvent.AnyClass =>
  event[Event.TypeId] === "Notification"

const isHandler = (node: Node): node is HandlerNode => node._tag === "Handler"

/** Effect's graph, whose indices are those of `nodes`. */
const toIndexed = (flow: FlowGraph) => {
  const indices = new Map<Node, Graph.NodeIndex>()
  const indexOf = (node: Node): Graph.NodeIndex => indices.get(node)!
  const graph = Graph.directed<Node, Edge>((mutable) => {
    for (const node of flow.nodes) indices.set(node, Graph.addNode(mutable, node))
    for (const edge of flow.edges) Graph.addEdge(mutable, indexOf(edge.from), indexOf(edge.to), edge)
  })
  return { graph, indexOf }
}

const reachableFrom = (flow: FlowGraph, start: ReadonlyArray<Node>): ReadonlySet<Node> => {
  const { graph, indexOf } = toIndexed(flow)
  return new Set(Graph.values(Graph.bfs(graph, { start: start.map(indexOf) })))
}

const externalEvents = (graph: FlowGraph): ReadonlyArray<NotificationEventNode> => {
  const emitted = new Set(graph.edges.map((edge) => edge.to))
  return graph.nodes.filter((node) => node._tag === "NotificationEvent").filter((node) => !emitted.has(node))
}

/** Where flows start. */
const roots = (graph: FlowGraph): ReadonlyArray<Node> => [
  ...graph.nodes.filter((node) => node._tag === "Command"),
  ...externalEvents(graph)
]

/** Rotates a cycle to start at its first event: cycles found twice become equal. */
const startAtFirstEvent = (
  graph: FlowGraph,
  indices: ReadonlyArray<Graph.NodeIndex>
): ReadonlyArray<Graph.NodeIndex> => {
  const first = Math.min(...indices.filter((index) => !isHandler(graph.nodes[index]!)))
  const at = indices.indexOf(first)
  return [...indices.slice(at), ...indices.slice(0, at)]
}

const toCycle = (nodes: ReadonlyArray<Node>): Cycle => ({
  nodes,
  isThroughBroker: nodes.some((node) => node._tag === "NotificationEvent"),
  path: nodes.map((node) => `${node.name} ${node._tag === "NotificationEvent" ? "⇢" : "→"} `).join("") + nodes[0]!.name
})

const describeKind = (node: Node): string => {
  switch (node._tag) {
    case "Command":
      return "command"
    case "Handler":
      return "handler"
    case "DomainEvent":
    case "NotificationEvent":
      return "event"
  }
}

const formatReport = (graph: FlowGraph, report: Omit<Report, "isSound">): string => {
  const number = (count: number, noun: string) => `${count} ${noun}${count === 1 ? "" : "s"}`
  const count = (kind: string) => graph.nodes.filter((node) => describeKind(node) === kind).length
  const lines = [
    `${number(count("command"), "command")}, ${number(count("event"), "event")}, ${number(count("handler"), "handler")}`
  ]
  const section = (mark: string, found: ReadonlyArray<string>, noun: string, rest: string) => {
    if (found.length === 0) return
    lines.push(`${mark} ${number(found.length, noun)}${rest}:`, ...found.map((line) => `    ${line}`))
  }
  const handler = ({ definition, name }: HandlerNode) =>
    isNotification(definition.on)
      ? `${name} (on ${definition.on.tag}, topic "${definition.on.route.topic}")`
      : `${name} (on ${definition.on.tag})`
  section(
    "✗",
    report.cycles.map(({ isThroughBroker, path }) => isThroughBroker ? `${path} (through a broker: endless)` : path),
    "cycle",
    ""
  )
  section("✗", report.unreachableHandlers.map(handler), "handler", " that no flow reaches")
  section("✗", report.unhandledEvents.map(({ name }) => name), "domain event", " that nothing handles")
  section("✗", report.duplicates.map((node) => `${describeKind(node)} ${node.name}`), "name", " used twice")
  if (lines.length === 1) lines.push("✓ no cycles, every handler is reached, every domain event is handled")
  section("i", report.externalHandlers.map(handler), "handler", " of events from other programs")
  return lines.join("\n")
}

const mermaid = (graph: FlowGraph, shown: ReadonlySet<Node>): string => {
  const ids = mermaidIds(graph.nodes)
  const lines = ["flowchart LR"]
  for (const node of graph.nodes) {
    if (shown.has(node)) lines.push(`  ${ids.get(node)}${mermaidShape(node)}`)
  }
  for (const { from, kind, to } of graph.edges) {
    if (!shown.has(from) || !shown.has(to)) continue
    lines.push(`  ${ids.get(from)} ${kind === "ConsumedBy" ? "-.->" : "-->"} ${ids.get(to)}`)
  }
  return lines.join("\n")
}

const mermaidShape = (node: Node): string => {
  switch (node._tag) {
    case "Command":
      return `(["${mermaidLabel(node.name)}"])`
    case "DomainEvent":
      return `("${mermaidLabel(node.name)}")`
    case "NotificationEvent":
      return `{{"${mermaidLabel(node.name)}<br/>topic ${mermaidLabel(node.topic)}"}}`
    case "Handler":
      return `["${mermaidLabel(node.name)}"]`
  }
}

/** Everything that could mean something to Mermaid, as an entity code. */
const mermaidLabel = (label: string): string =>
  label.replace(/[^\p{L}\p{N} _.:-]/gu, (character) => `#${character.codePointAt(0)};`)

/** Identifiers from kind and name; the kind's prefix keeps clear of Mermaid's reserved words. */
const mermaidIds = (nodes: ReadonlyArray<Node>): ReadonlyMap<Node, string> => {
  const ids = new Map<Node, string>()
  const taken = new Set<string>()
  for (const node of nodes) {
    const base = `${describeKind(node)}_${
      node.name.replace(/[^A-Za-z0-9]/gu, (character) => `_${character.codePointAt(0)!.toString(16)}_`)
    }`
    let id = base
    for (let n = 2; taken.has(id); n++) id = `${base}_${n}`
    taken.add(id)
    ids.set(node, id)
  }
  return ids
}
