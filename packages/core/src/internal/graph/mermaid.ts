/** The nodes and edges of a flow as a Mermaid flowchart. */
import { identifiers } from "./identifiers.ts"
import { kindOf } from "./kind.ts"

export type Node =
  | { readonly _tag: "Command" | "DomainEvent" | "Handler"; readonly name: string }
  | { readonly _tag: "NotificationEvent"; readonly name: string; readonly topic: string }

export interface Edge {
  readonly kind: keyof typeof arrows
  readonly from: Node
  readonly to: Node
}

/** Identifiers are those of all nodes, so that a node has one identifier in every diagram. */
export const flowchart = (
  ids: ReadonlyMap<Node, string>,
  edges: ReadonlyArray<Edge>,
  shown: ReadonlySet<Node>
): string => {
  const lines = ["flowchart LR"]
  for (const [node, id] of ids) {
    if (shown.has(node)) lines.push(`  ${id}${box(node)}`)
  }
  for (const { from, kind, to } of edges) {
    if (shown.has(from) && shown.has(to)) lines.push(`  ${ids.get(from)} ${arrows[kind]} ${ids.get(to)}`)
  }
  return lines.join("\n")
}

/**
 * An identifier for each node, in their order, from kind and name; the kind's
 * prefix keeps clear of Mermaid's reserved words.
 */
export const identifiersOf = <N extends Node>(nodes: ReadonlyArray<N>): ReadonlyMap<N, string> =>
  identifiers(
    nodes,
    (node) =>
      `${kindOf(node)}_${
        node.name.replace(/[^A-Za-z0-9]/gu, (character) => `_${character.codePointAt(0)!.toString(16)}_`)
      }`
  )

// --- internal ---

const arrows = { Emits: "-->", Sends: "-->|sends|", HandledBy: "-->", ConsumedBy: "-.->" }

const box = (node: Node): string => {
  switch (node._tag) {
    case "Command":
      return `(["${escape(node.name)}"])`
    case "DomainEvent":
      return `("${escape(node.name)}")`
    case "NotificationEvent":
      return `{{"${escape(node.name)}<br/>topic ${escape(node.topic)}"}}`
    case "Handler":
      return `["${escape(node.name)}"]`
  }
}

/** A label without what means something to Mermaid; a label may not be empty. */
const escape = (text: string): string =>
  text === "" ? " " : text.replace(special, (character) => `#${character.codePointAt(0)};`)

/**
 * What becomes an entity code. Mermaid reads labels as Markdown, where "1. a",
 * "- a", "_a_", "www.a" and indentation have a meaning: of " _.-", only one
 * between two letters or digits has none.
 */
const special = /[^\p{L}\p{N} _.-]|(?<![\p{L}\p{N}])[ _.-]|[ _.-](?![\p{L}\p{N}])|(?<=www)\./giu
