/** Questions to a directed graph that is given as nodes and edges. */
import * as Graph from "effect/Graph"
import * as Option from "effect/Option"

export interface Digraph<N, E extends { readonly from: N; readonly to: N }> {
  readonly nodes: ReadonlyArray<N>
  readonly edges: ReadonlyArray<E>
}

/** The nodes that one can get to from these, themselves included. */
export const reachable = <N, E extends { readonly from: N; readonly to: N }>(
  flow: Digraph<N, E>,
  start: ReadonlyArray<N>
): ReadonlySet<N> => {
  const { graph, indexOf } = toIndexed(flow)
  return new Set(Graph.values(Graph.bfs(graph, { start: start.map(indexOf) })))
}

/**
 * For every edge that lies on a cycle, a shortest cycle through it; each cycle
 * once, as its edges in turn. It starts at the first node, in the order of the
 * graph, that may start a cycle.
 */
export const cycles = <N, E extends { readonly from: N; readonly to: N }>(
  flow: Digraph<N, E>,
  mayStart: (node: N) => boolean
): ReadonlyArray<ReadonlyArray<E>> => {
  const { graph, indexOf } = toIndexed(flow)
  const component = new Map<Graph.NodeIndex, number>()
  for (const [i, members] of Graph.stronglyConnectedComponents(graph).entries()) {
    for (const index of members) component.set(index, i)
  }
  const found = new Map<string, ReadonlyArray<E>>()
  for (const edge of flow.edges) {
    const source = indexOf(edge.from)
    const target = indexOf(edge.to)
    if (component.get(source) !== component.get(target)) continue
    const back = Graph.dijkstra(graph, { source: target, target: source, cost: () => 1 })
    if (Option.isNone(back)) continue
    // From the target to the source, which the edge closes
    const path = back.value.path
    const first = path.indexOf(Math.min(...path.filter((index) => mayStart(flow.nodes[index]!))))
    const indices = [...path.slice(first), ...path.slice(0, first)]
    const key = indices.join()
    if (!found.has(key)) found.set(key, indices.map((from, i) => edgeOf(from, indices[(i + 1) % indices.length]!)))
  }
  return Array.from(found.values())

  function edgeOf(from: Graph.NodeIndex, to: Graph.NodeIndex): E {
    return flow.edges.find((edge) => indexOf(edge.from) === from && indexOf(edge.to) === to)!
  }
}

// --- internal ---

/** Effect's graph, whose indices are those of `nodes`. */
const toIndexed = <N, E extends { readonly from: N; readonly to: N }>(flow: Digraph<N, E>) => {
  const indices = new Map<N, Graph.NodeIndex>()
  const indexOf = (node: N): Graph.NodeIndex => indices.get(node)!
  const graph = Graph.directed<N, E>((mutable) => {
    for (const node of flow.nodes) indices.set(node, Graph.addNode(mutable, node))
    for (const edge of flow.edges) Graph.addEdge(mutable, indexOf(edge.from), indexOf(edge.to), edge)
  })
  return { graph, indexOf }
}
