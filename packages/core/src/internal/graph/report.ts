/** The findings of a check of a flow, as text. */
import type * as Event from "../../Event.ts"
import { isNotificationClass } from "../definition/kinds.ts"
import { kindOf } from "./kind.ts"

interface Node {
  readonly _tag: Parameters<typeof kindOf>[0]["_tag"]
  readonly name: string
}

interface Handler extends Node {
  readonly definition: { readonly on: ReadonlyArray<Event.AnyClass> }
}

export interface Findings {
  readonly cycles: ReadonlyArray<{ readonly path: string; readonly isThroughBroker: boolean }>
  readonly unreachableHandlers: ReadonlyArray<Handler>
  readonly unhandledEvents: ReadonlyArray<Node>
  readonly unknownSends: ReadonlyArray<{ readonly from: Node; readonly tag: string }>
  readonly duplicates: ReadonlyArray<Node>
  readonly externalHandlers: ReadonlyArray<Handler>
}

export const format = (nodes: ReadonlyArray<Node>, findings: Findings): string => {
  const number = (kind: ReturnType<typeof kindOf>) => count(nodes.filter((node) => kindOf(node) === kind).length, kind)
  const wrong = [
    ...section("✗", "cycle", "", findings.cycles.map(describeCycle)),
    ...section("✗", "handler", " that no flow reaches", findings.unreachableHandlers.map(describeHandler)),
    ...section("✗", "domain event", " that nothing handles", findings.unhandledEvents.map(({ name }) => name)),
    ...section(
      "✗",
      "send",
      " of a command that the graph does not have",
      findings.unknownSends.map(({ from, tag }) => `${kindOf(from)} ${from.name} sends "${tag}"`)
    ),
    ...section("✗", "name", " used twice", findings.duplicates.map((node) => `${kindOf(node)} ${node.name}`))
  ]
  return [
    `${number("command")}, ${number("event")}, ${number("handler")}`,
    ...wrong.length > 0 ? wrong : ["✓ no cycles, every handler is reached, every domain event is handled"],
    ...section("i", "handler", " of events from other programs", findings.externalHandlers.map(describeHandler))
  ].join("\n")
}

// --- internal ---

const section = (mark: string, noun: string, rest: string, found: ReadonlyArray<string>): ReadonlyArray<string> =>
  found.length === 0 ? [] : [`${mark} ${count(found.length, noun)}${rest}:`, ...found.map((line) => `    ${line}`)]

const count = (number: number, noun: string): string => `${number} ${noun}${number === 1 ? "" : "s"}`

const describeCycle = ({ isThroughBroker, path }: Findings["cycles"][number]): string =>
  isThroughBroker ? `${path} (through a broker: endless)` : path

const describeHandler = ({ definition, name }: Handler): string => {
  const events = definition.on.map((event) =>
    isNotificationClass(event) ? `${event.tag}, topic "${event.route.topic}"` : event.tag
  )
  return `${name} (on ${events.join("; ")})`
}
