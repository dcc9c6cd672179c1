/**
 * The definitions of a program as a graph: which command emits which
 * event, which handler handles it, which events and commands follow. It finds
 * what is wrong before anything runs, and draws the flows.
 *
 * **When to use**
 *
 * In a test of the program's definitions, and to keep diagrams in the
 * documentation that follow from the code.
 *
 * **Gotchas**
 *
 * It knows what definitions declare. A command that is sent and not listed in
 * `sends` is not seen, and neither is a cycle through it.
 *
 * **Example** (A test of the wiring)
 *
 * ```ts
 * import { Command, DomainEvent, EventFlow, EventHandler, FlowGraph } from "@event-flow/core"
 * import { strictEqual } from "node:assert"
 *
 * class Joined extends DomainEvent.Class<Joined>()("Joined", {}) {}
 * class Join extends Command.Class<Join>()("Join", { emits: [Joined] }) {}
 * const Greet = EventHandler.make("Greet", { on: Joined })
 * class Meetings extends EventFlow.make("Meetings", { commands: [Join], handlers: [Greet] }) {}
 *
 * const report = FlowGraph.check(FlowGraph.make(Meetings))
 * strictEqual(report.isSound, true, String(report))
 * ```
 *
 * @stability unstable
 * @since 0.1.0
 */
import type * as Command from "./Command.ts"
import type * as DomainEvent from "./DomainEvent.ts"
import type * as Event from "./Event.ts"
import type * as EventHandler from "./EventHandler.ts"
import { isNotificationClass } from "./internal/definition/kinds.ts"
import { sendsOf } from "./internal/graph/declared.ts"
import * as Digraph from "./internal/graph/digraph.ts"
import { repeated } from "./internal/graph/identifiers.ts"
import { kindOf } from "./internal/graph/kind.ts"
import * as Mermaid from "./internal/graph/mermaid.ts"
import * as TextReport from "./internal/graph/report.ts"
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
 * - `"Sends"`: from a command or handler to a command that it declares to send.
 * - `"HandledBy"`: from a domain event to a handler, in process.
 * - `"ConsumedBy"`: from a notification event to a handler, through its topic.
 *
 * @stability unstable
 * @category models
 * @since 0.1.0
 */
export interface Edge {
  readonly kind: "Emits" | "Sends" | "HandledBy" | "ConsumedBy"
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
 * What a graph is made of: a flow, or lists of definitions, such as the handlers
 * of a consumer that are in no flow.
 *
 * @stability unstable
 * @category models
 * @since 0.1.0
 */
export interface Part {
  readonly commands?: ReadonlyArray<Command.AnyClass> | undefined
  readonly handlers?: ReadonlyArray<EventHandler.Any> | undefined
}

/**
 * The graph of these flows: their commands, queries and event handlers, the
 * events that these name and the commands that they send. Each definition is a
 * node of its own, also where two have one name.
 *
 * @stability unstable
 * @category constructors
 * @since 0.1.0
 */
export const make = (...flows: ReadonlyArray<Part>): FlowGraph => {
  const nodes = new Map<Node["definition"], Node>()
  const edges = new Map<Node, Map<Node, Edge>>()
  const connect = (kind: Edge["kind"], from: Node, to: Node): void => {
    const out = edges.get(from) ?? new Map<Node, Edge>()
    edges.set(from, out)
    if (!out.has(to)) out.set(to, { kind, from, to })
  }
  const add = <A extends Node>(node: A): A => {
    nodes.set(node.definition, node)
    return node
  }
  const event = (definition: Event.AnyClass): Node => nodes.get(definition) ?? add(eventNode(definition))
  const command = (definition: Command.AnyClass): Node => {
    const known = nodes.get(definition)
    if (known !== undefined) return known
    const created = add({ _tag: "Command", name: definition.tag, definition })
    followUps(created)
    return created
  }
  // Adds what a definition names, and so on, before the next definition of the list
  const followUps = (from: CommandNode | HandlerNode): void => {
    for (const emitted of from.definition.emits) connect("Emits", from, event(emitted))
    for (const sent of sendsOf(from.definition)) {
      if (typeof sent !== "string") connect("Sends", from, command(sent))
    }
  }

  for (const definition of flows.flatMap((flow) => flow.commands ?? [])) command(definition)
  for (const definition of flows.flatMap((flow) => flow.handlers ?? [])) {
    if (nodes.has(definition)) continue
    const on = definition.on.map(event)
    const handler = add({ _tag: "Handler", name: definition.name, definition })
    for (const node of on) connect(node._tag === "NotificationEvent" ? "ConsumedBy" : "HandledBy", node, handler)
    followUps(handler)
  }

  const list = Array.from(nodes.values())
  for (const { from, tag } of sendsByTag(list)) {
    for (const to of commandsOf(list, tag)) connect("Sends", from, to)
  }
  return {
    [TypeId]: TypeId,
    nodes: list,
    edges: list.flatMap((from) => Array.from(edges.get(from)?.values() ?? []))
  }
}

/**
 * An event or command that leads back to itself.
 *
 * @stability unstable
 * @category models
 * @since 0.1.0
 */
export interface Cycle {
  /** Starts with an event or command; the last node leads to the first. */
  readonly nodes: ReadonlyArray<Node>
  /**
   * Whether messages of a broker are part of it. Such a cycle does not end in
   * `CascadeTooDeep`: it never ends, and runs over all programs that take part.
   */
  readonly isThroughBroker: boolean
  /** `"UserJoined → Greet → UserJoined"`; a step through a broker is `"⇢"`, one that sends a command `"⇒"`. */
  readonly path: string
}

/**
 * A command that is declared to be sent by its tag, and that the graph does not have.
 *
 * @stability unstable
 * @category models
 * @since 0.1.0
 */
export interface UnknownSend {
  readonly from: CommandNode | HandlerNode
  /** The tag that no command has. */
  readonly tag: string
}

/**
 * What `check` has found. `String(report)` is readable.
 *
 * @stability unstable
 * @category models
 * @since 0.1.0
 */
export interface Report {
  /**
   * For every step that lies on a cycle, a shortest cycle through it. So none is
   * missed where there is one, every step to blame is shown, and the number of
   * cycles is at most that of the steps.
   */
  readonly cycles: ReadonlyArray<Cycle>
  /**
   * The handlers that no flow reaches: neither from a command, nor from a
   * notification event of another program. Nothing here emits their event, or
   * only handlers that are not reached themselves.
   */
  readonly unreachableHandlers: ReadonlyArray<HandlerNode>
  /** The domain events that are emitted here and handled by nobody. Collecting one logs a warning (F7). */
  readonly unhandledEvents: ReadonlyArray<DomainEventNode>
  /** The tags in `sends` that no command of the graph has. */
  readonly unknownSends: ReadonlyArray<UnknownSend>
  /**
   * Different definitions of one kind with one name: two commands, two events, or
   * two handlers. Handlers and events of one name are an error when their
   * `EventMap` is built (F14); of two commands the later layer would win.
   */
  readonly duplicates: ReadonlyArray<Node>
  /**
   * For information: the handlers of notification events that nothing here
   * emits. They depend on what other programs publish.
   */
  readonly externalHandlers: ReadonlyArray<HandlerNode>
  /** No finding but external handlers. */
  readonly isSound: boolean
  readonly toString: () => string
}

/**
 * Looks for what is wrong with a graph.
 *
 * @stability unstable
 * @category checks
 * @since 0.1.0
 */
export const check = (graph: FlowGraph): Report => {
  const handlers = graph.nodes.filter((node) => node._tag === "Handler")
  const reached = Digraph.reachable(graph, roots(graph))
  const external = new Set<Node>(externalEvents(graph))
  const wrong = {
    cycles: Digraph.cycles(graph, (node) => node._tag !== "Handler").map(toCycle),
    unreachableHandlers: handlers.filter((handler) => !reached.has(handler)),
    unhandledEvents: graph.nodes.filter((node) => node._tag === "DomainEvent")
      .filter((node) => graph.edges.every(({ from }) => from !== node)),
    unknownSends: sendsByTag(graph.nodes).filter(({ tag }) => commandsOf(graph.nodes, tag).length === 0),
    duplicates: repeated(graph.nodes, (node) => `${kindOf(node)} ${node.name}`)
  }
  const findings = {
    ...wrong,
    externalHandlers: handlers.filter((handler) =>
      graph.edges.some(({ from, to }) => to === handler && external.has(from))
    )
  }
  return {
    ...findings,
    isSound: Object.values(wrong).every((found) => found.length === 0),
    toString: () => TextReport.format(graph.nodes, findings)
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
 * hexagons with their topic, handlers plain boxes. A step through a broker is a
 * dotted arrow, one that sends a command says so. Identifiers follow from names,
 * and the order from the definitions, so that the diagram changes only with what
 * it shows.
 *
 * @stability unstable
 * @category rendering
 * @since 0.1.0
 */
export const toMermaid = (graph: FlowGraph, root?: Command.AnyClass | NotificationEvent.AnyClass): string => {
  const ids = Mermaid.identifiersOf(graph.nodes)
  if (root === undefined) return Mermaid.flowchart(ids, graph.edges, new Set(graph.nodes))
  const node = graph.nodes.find((node) => node.definition === root)
  if (node === undefined) throw new Error(`"${root.tag}" is not in this FlowGraph: list it in FlowGraph.make`)
  return Mermaid.flowchart(ids, graph.edges, Digraph.reachable(graph, [node]))
}

/**
 * The flowcharts of all flows: of each command, and of each notification event
 * that comes from another program.
 *
 * **Details**
 *
 * A flow goes by the identifier of its root in the diagram, which is made of kind
 * and name and may be part of a file name: `"command_JoinMeeting"`,
 * `"event_DelayFound"`. Of two commands with one name, the second is `_2`.
 *
 * @stability unstable
 * @category rendering
 * @since 0.1.0
 */
export const toMermaidAll = (graph: FlowGraph): Readonly<Record<string, string>> => {
  const ids = Mermaid.identifiersOf(graph.nodes)
  return Object.fromEntries(
    roots(graph).map((root) => [
      ids.get(root),
      Mermaid.flowchart(ids, graph.edges, Digraph.reachable(graph, [root]))
    ])
  )
}

// --- internal ---

const eventNode = (event: Event.AnyClass): DomainEventNode | NotificationEventNode =>
  isNotificationClass(event)
    ? { _tag: "NotificationEvent", name: event.tag, topic: event.route.topic, definition: event }
    : { _tag: "DomainEvent", name: event.tag, definition: event }

const sendsByTag = (nodes: ReadonlyArray<Node>): ReadonlyArray<UnknownSend> =>
  nodes.flatMap((from) =>
    from._tag === "Command" || from._tag === "Handler"
      ? sendsOf(from.definition).flatMap((tag) => typeof tag === "string" ? [{ from, tag }] : [])
      : []
  )

const commandsOf = (nodes: ReadonlyArray<Node>, tag: string): ReadonlyArray<Node> =>
  nodes.filter((node) => node._tag === "Command" && node.name === tag)

const externalEvents = (graph: FlowGraph): ReadonlyArray<NotificationEventNode> =>
  graph.nodes.filter((node) => node._tag === "NotificationEvent")
    .filter((node) => graph.edges.every(({ to }) => to !== node))

/** Where flows start. */
const roots = (graph: FlowGraph): ReadonlyArray<Node> => [
  ...graph.nodes.filter((node) => node._tag === "Command"),
  ...externalEvents(graph)
]

const toCycle = (edges: ReadonlyArray<Edge>): Cycle => ({
  nodes: edges.map(({ from }) => from),
  isThroughBroker: edges.some(({ kind }) => kind === "ConsumedBy"),
  path: edges.map(({ from, kind }) => `${from.name} ${arrows[kind]} `).join("") + edges[0]!.from.name
})

const arrows = { Emits: "→", Sends: "⇒", HandledBy: "→", ConsumedBy: "⇢" }
