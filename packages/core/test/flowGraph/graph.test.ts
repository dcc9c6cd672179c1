/** The graph of definitions: nodes and edges. */
import { assert, describe, it } from "@effect/vitest"
import { Command, type Event, EventHandler, FlowGraph } from "@event-flow/core"
import {
  Announced,
  Board,
  DelayFound,
  Greet,
  GreetingSent,
  Join,
  Leave,
  Lost,
  MeetingFull,
  names,
  Seats,
  UserJoined
} from "./support.ts"

describe("FlowGraph.make", () => {
  it("has a node for every definition, in order, and an edge for every step", () => {
    const graph = FlowGraph.make({ commands: [Join, Seats], handlers: [Greet, Board] })
    assert.deepStrictEqual(
      graph.nodes.map((node) => `${node._tag} ${node.name}`),
      [
        "Command Join",
        "DomainEvent UserJoined",
        "NotificationEvent Announced",
        "Command Seats",
        "Handler Greet",
        "DomainEvent GreetingSent",
        "NotificationEvent DelayFound",
        "Handler Board"
      ]
    )
    assert.deepStrictEqual(
      graph.edges.map(({ from, kind, to }) => `${from.name} ${kind} ${to.name}`),
      [
        "Join Emits UserJoined",
        "Join Emits Announced",
        "UserJoined HandledBy Greet",
        "Greet Emits GreetingSent",
        "DelayFound ConsumedBy Board"
      ]
    )
  })

  it("counts an event once that is declared twice", () => {
    const Twice = EventHandler.make("Twice", { on: UserJoined, emits: [GreetingSent, GreetingSent] })
    assert.strictEqual(FlowGraph.make({ handlers: [Twice] }).edges.length, 2)
  })
})

describe("FlowGraph: sends", () => {
  const pay = (...sends: ReadonlyArray<Command.Target>) =>
    class extends Command.Class<Command.Any>()("Pay", { emits: [UserJoined], sends }) {}
  const refund = (...sends: ReadonlyArray<Command.Target>) =>
    class extends Command.Class<Command.Any>()("Refund", { sends }) {}
  const onJoined = (...sends: ReadonlyArray<Command.Target>) => EventHandler.make("OnJoined", { on: UserJoined, sends })
  const edges = (graph: FlowGraph.FlowGraph) =>
    graph.edges.map(({ from, kind, to }) => `${from.name} ${kind} ${to.name}`)

  it("has an edge from a handler or command to what it sends: by class or by tag, once", () => {
    const Pay = pay()
    const Refund = refund("Pay", Pay)
    const OnJoined = onJoined(Refund, "Refund")
    assert.deepStrictEqual(edges(FlowGraph.make({ commands: [Pay, Refund], handlers: [OnJoined] })), [
      "Pay Emits UserJoined",
      "UserJoined HandledBy OnJoined",
      "Refund Sends Pay",
      "OnJoined Sends Refund"
    ])
  })

  it("takes in a class that is sent and not listed, with what it emits and sends", () => {
    const Refund = refund(pay("Refund"))
    const graph = FlowGraph.make({ handlers: [onJoined(Refund)] })
    assert.deepStrictEqual(names(graph.nodes), ["UserJoined", "OnJoined", "Refund", "Pay"])
    assert.deepStrictEqual(edges(graph), [
      "UserJoined HandledBy OnJoined",
      "OnJoined Sends Refund",
      "Refund Sends Pay",
      "Pay Emits UserJoined",
      "Pay Sends Refund"
    ])
  })

  it("F10: finds a cycle through a send", () => {
    const graph = FlowGraph.make({ commands: [pay()], handlers: [onJoined("Pay")] })
    const [cycle, ...others] = FlowGraph.check(graph).cycles
    assert.strictEqual(cycle?.path, "Pay → UserJoined → OnJoined ⇒ Pay")
    assert.deepStrictEqual(names(cycle!.nodes), ["Pay", "UserJoined", "OnJoined"])
    assert.isFalse(cycle?.isThroughBroker)
    assert.deepStrictEqual(others, [])
  })

  it("F10: finds commands that send one another, and one that sends itself", () => {
    const Refund = refund("Pay")
    const Pay = pay("Pay", Refund)
    const graph = FlowGraph.make({ commands: [Pay] })
    assert.deepStrictEqual(FlowGraph.check(graph).cycles.map(({ path }) => path), ["Pay ⇒ Refund ⇒ Pay", "Pay ⇒ Pay"])
  })

  it("marks a cycle through both a broker and a send", () => {
    class Announce extends Command.Class<Announce>()("Announce", { emits: [Announced] }) {}
    const OnAnnounced = EventHandler.make("OnAnnounced", { on: Announced, sends: [Announce] })
    const [cycle] = FlowGraph.check(FlowGraph.make({ handlers: [OnAnnounced] })).cycles
    assert.strictEqual(cycle?.path, "Announced ⇢ OnAnnounced ⇒ Announce → Announced")
    assert.isTrue(cycle?.isThroughBroker)
  })

  it("a tag that two commands have leads to both", () => {
    const graph = FlowGraph.make({ commands: [pay(), pay()], handlers: [onJoined("Pay")] })
    assert.deepStrictEqual(
      graph.edges.flatMap(({ kind, to }) => kind === "Sends" ? [graph.nodes.indexOf(to)] : []),
      graph.nodes.flatMap((node, i) => node._tag === "Command" ? [i] : [])
    )
  })

  it("reports tags that no command has, whatever else has the name", () => {
    const Refund = refund("UserJoined", "OnJoined")
    const OnJoined = onJoined("Bok", "Refund")
    const graph = FlowGraph.make({ commands: [pay(), Refund], handlers: [OnJoined] })
    const report = FlowGraph.check(graph)
    assert.deepStrictEqual(report.unknownSends.map(({ from, tag }) => [from.definition, tag] as const), [
      [Refund, "UserJoined"],
      [Refund, "OnJoined"],
      [OnJoined, "Bok"]
    ])
    assert.isFalse(report.isSound)
    assert.include(
      String(report),
      `✗ 3 sends of a command that the graph does not have:
    command Refund sends "UserJoined"
    command Refund sends "OnJoined"
    handler OnJoined sends "Bok"`
    )
  })

  it("what is sent belongs to the flow of its sender", () => {
    const Pay = pay()
    const graph = FlowGraph.make({ commands: [Pay, refund()], handlers: [onJoined("Refund")] })
    assert.strictEqual(
      FlowGraph.toMermaid(graph, Pay),
      `flowchart LR
  command_Pay(["Pay"])
  event_UserJoined("UserJoined")
  command_Refund(["Refund"])
  handler_OnJoined["OnJoined"]
  command_Pay --> event_UserJoined
  event_UserJoined --> handler_OnJoined
  handler_OnJoined -->|sends| command_Refund`
    )
  })
})

describe("FlowGraph: a handler of several events", () => {
  const onMany = (...on: readonly [Event.AnyClass, ...ReadonlyArray<Event.AnyClass>]) =>
    EventHandler.make("Audit", { on, emits: [GreetingSent] })

  it("has an edge from each", () => {
    const graph = FlowGraph.make({ commands: [Join], handlers: [onMany(UserJoined, Announced, MeetingFull)] })
    assert.deepStrictEqual(
      graph.edges.flatMap(({ from, kind, to }) => to.name === "Audit" ? [`${from.name} ${kind}`] : []),
      ["UserJoined HandledBy", "Announced ConsumedBy", "MeetingFull HandledBy"]
    )
  })

  it("is reached by any of them, and external once", () => {
    const external = [DelayFound, Announced] as const
    const reached = FlowGraph.check(FlowGraph.make({ commands: [Leave], handlers: [onMany(UserJoined, MeetingFull)] }))
    const outside = FlowGraph.check(FlowGraph.make({ handlers: [onMany(UserJoined, ...external)] }))
    const never = FlowGraph.check(FlowGraph.make({ commands: [Leave], handlers: [onMany(UserJoined, Lost)] }))
    assert.deepStrictEqual(names(reached.unreachableHandlers), [])
    assert.deepStrictEqual(names(outside.unreachableHandlers), [])
    assert.deepStrictEqual(names(outside.externalHandlers), ["Audit"])
    assert.deepStrictEqual(names(never.unreachableHandlers), ["Audit"])
    assert.include(String(never), "    Audit (on UserJoined; Lost)")
    assert.include(
      String(outside),
      "    Audit (on UserJoined; DelayFound, topic \"delays\"; Announced, topic \"meetings\")"
    )
  })

  it("lies on the cycles of each", () => {
    const graph = FlowGraph.make({ handlers: [onMany(GreetingSent, UserJoined), Greet] })
    assert.deepStrictEqual(FlowGraph.check(graph).cycles.map(({ path }) => path), [
      "GreetingSent → Audit → GreetingSent"
    ])
  })
})
