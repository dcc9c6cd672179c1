import { assert, describe, it } from "@effect/vitest"
import { Command, DomainEvent, type Event, EventHandler, FlowGraph, NotificationEvent, Query } from "@event-flow/core"
import { Effect, Schema } from "effect"

class UserJoined extends DomainEvent.Class<UserJoined>()("UserJoined", { userId: Schema.String }) {}
class GreetingSent extends DomainEvent.Class<GreetingSent>()("GreetingSent", { userId: Schema.String }) {}
class MeetingFull extends DomainEvent.Class<MeetingFull>()("MeetingFull", {}) {}
class Announced extends NotificationEvent.Class<Announced>()("Announced", { id: Schema.String }, {
  topic: "meetings"
}) {}
class DelayFound extends NotificationEvent.Class<DelayFound>()("DelayFound", { id: Schema.String }, {
  topic: "delays"
}) {}

class Join extends Command.Class<Join>()("Join", { emits: [UserJoined, Announced] }) {}
class Leave extends Command.Class<Leave>()("Leave", { emits: [MeetingFull] }) {}
class Seats extends Query.Class<Seats>()("Seats", { success: Schema.Int }) {}

const Greet = EventHandler.make("Greet", { on: UserJoined, emits: [GreetingSent] })
const Count = EventHandler.make("Count", { on: UserJoined })
const Welcome = EventHandler.make("Welcome", { on: GreetingSent, emits: [UserJoined] })
const Thank = EventHandler.make("Thank", { on: GreetingSent })
const Board = EventHandler.make("Board", { on: DelayFound })
const Mirror = EventHandler.make("Mirror", { on: Announced, emits: [Announced] })
const OnFull = EventHandler.make("OnFull", { on: MeetingFull })

const names = (nodes: ReadonlyArray<FlowGraph.Node>) => nodes.map((node) => node.name)

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

/** By hand, until definitions have the option. */
const sending = <A extends object>(definition: A, ...sends: ReadonlyArray<Command.AnyClass | string>): A =>
  Object.assign(definition, { sends })

describe("FlowGraph: sends", () => {
  const pay = () => class extends Command.Class<Command.Any>()("Pay", { emits: [UserJoined] }) {}
  const refund = () => class extends Command.Class<Command.Any>()("Refund", {}) {}
  const onJoined = () => EventHandler.make("OnJoined", { on: UserJoined })
  const edges = (graph: FlowGraph.FlowGraph) =>
    graph.edges.map(({ from, kind, to }) => `${from.name} ${kind} ${to.name}`)

  it("has an edge from a handler or command to what it sends: by class or by tag, once", () => {
    const Pay = pay()
    const Refund = sending(refund(), "Pay", Pay)
    const OnJoined = sending(onJoined(), Refund, "Refund")
    assert.deepStrictEqual(edges(FlowGraph.make({ commands: [Pay, Refund], handlers: [OnJoined] })), [
      "Pay Emits UserJoined",
      "UserJoined HandledBy OnJoined",
      "Refund Sends Pay",
      "OnJoined Sends Refund"
    ])
  })

  it("takes in a class that is sent and not listed, with what it emits and sends", () => {
    const Refund = sending(refund(), sending(pay(), "Refund"))
    const graph = FlowGraph.make({ handlers: [sending(onJoined(), Refund)] })
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
    const graph = FlowGraph.make({ commands: [pay()], handlers: [sending(onJoined(), "Pay")] })
    const [cycle, ...others] = FlowGraph.check(graph).cycles
    assert.strictEqual(cycle?.path, "Pay → UserJoined → OnJoined ⇒ Pay")
    assert.deepStrictEqual(names(cycle!.nodes), ["Pay", "UserJoined", "OnJoined"])
    assert.isFalse(cycle?.isThroughBroker)
    assert.deepStrictEqual(others, [])
  })

  it("F10: finds commands that send one another, and one that sends itself", () => {
    const Refund = sending(refund(), "Pay")
    const Pay = sending(pay(), "Pay", Refund)
    const graph = FlowGraph.make({ commands: [Pay] })
    assert.deepStrictEqual(FlowGraph.check(graph).cycles.map(({ path }) => path), ["Pay ⇒ Refund ⇒ Pay", "Pay ⇒ Pay"])
  })

  it("marks a cycle through both a broker and a send", () => {
    class Announce extends Command.Class<Announce>()("Announce", { emits: [Announced] }) {}
    const OnAnnounced = sending(EventHandler.make("OnAnnounced", { on: Announced }), Announce)
    const [cycle] = FlowGraph.check(FlowGraph.make({ handlers: [OnAnnounced] })).cycles
    assert.strictEqual(cycle?.path, "Announced ⇢ OnAnnounced ⇒ Announce → Announced")
    assert.isTrue(cycle?.isThroughBroker)
  })

  it("a tag that two commands have leads to both", () => {
    const graph = FlowGraph.make({ commands: [pay(), pay()], handlers: [sending(onJoined(), "Pay")] })
    assert.deepStrictEqual(
      graph.edges.flatMap(({ kind, to }) => kind === "Sends" ? [graph.nodes.indexOf(to)] : []),
      graph.nodes.flatMap((node, i) => node._tag === "Command" ? [i] : [])
    )
  })

  it("reports tags that no command has, whatever else has the name", () => {
    const Refund = sending(refund(), "UserJoined", "OnJoined")
    const OnJoined = sending(onJoined(), "Bok", "Refund")
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
    const graph = FlowGraph.make({ commands: [Pay, refund()], handlers: [sending(onJoined(), "Refund")] })
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
  /** By hand, until `on` takes a list. */
  const onMany = (...on: ReadonlyArray<Event.AnyClass>): EventHandler.Any =>
    Object.assign(EventHandler.make("Audit", { on: UserJoined, emits: [GreetingSent] }), { on }) as never

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

describe("FlowGraph.check: cycles", () => {
  it("F10: shows a cycle as a path", () => {
    const graph = FlowGraph.make({ commands: [Join], handlers: [Greet, Welcome, Thank] })
    const [cycle, ...others] = FlowGraph.check(graph).cycles
    assert.strictEqual(cycle?.path, "UserJoined → Greet → GreetingSent → Welcome → UserJoined")
    assert.isFalse(cycle?.isThroughBroker)
    assert.deepStrictEqual(others, [])
  })

  it("marks a cycle through a broker", () => {
    const graph = FlowGraph.make({ commands: [Join], handlers: [Mirror] })
    const [cycle] = FlowGraph.check(graph).cycles
    assert.strictEqual(cycle?.path, "Announced ⇢ Mirror → Announced")
    assert.isTrue(cycle?.isThroughBroker)
  })

  it("shows every step to blame, each cycle once", () => {
    const Again = EventHandler.make("Again", { on: UserJoined, emits: [UserJoined] })
    const graph = FlowGraph.make({ handlers: [Greet, Welcome, Again, Mirror] })
    assert.deepStrictEqual(FlowGraph.check(graph).cycles.map((cycle) => cycle.path), [
      "UserJoined → Greet → GreetingSent → Welcome → UserJoined",
      "UserJoined → Again → UserJoined",
      "Announced ⇢ Mirror → Announced"
    ])
  })

  it("finds none where follow-ups only come together again", () => {
    const Other = EventHandler.make("Other", { on: UserJoined, emits: [GreetingSent] })
    assert.deepStrictEqual(
      FlowGraph.check(FlowGraph.make({ commands: [Join], handlers: [Greet, Other, Thank] })).cycles,
      []
    )
  })

  // Random graphs: handler i is on event `on` and emits `emits`
  const events: ReadonlyArray<Event.AnyClass> = Array.from({ length: 8 }, (_, i) =>
    i % 3 === 2
      ? class extends NotificationEvent.Class<NotificationEvent.Any>()(`N${i}`, {}, { topic: `topic${i}` }) {}
      : class extends DomainEvent.Class<DomainEvent.Any>()(`E${i}`, {}) {})
  const EventIndex = Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: events.length - 1 }))
  const Handlers = Schema.Array(Schema.Struct({
    on: EventIndex,
    emits: Schema.Array(EventIndex).check(Schema.isMaxLength(3))
  })).check(Schema.isMaxLength(12))

  it.effect.prop(
    "finds a cycle exactly when a depth first search does, and every step that lies on one",
    [Handlers],
    ([random]) =>
      Effect.sync(() => {
        const graph = FlowGraph.make({
          handlers: random.map(({ emits, on }, i) =>
            EventHandler.make(`H${i}`, { on: events[on]!, emits: emits.map((event) => events[event]!) })
          )
        })
        const next = (node: FlowGraph.Node) => graph.edges.filter(({ from }) => from === node).map(({ to }) => to)
        const reaches = (from: FlowGraph.Node, to: FlowGraph.Node, seen = new Set<FlowGraph.Node>()): boolean =>
          next(from).some((node) => node === to || (!seen.has(node) && reaches(node, to, seen.add(node))))

        const cycles = FlowGraph.check(graph).cycles
        assert.strictEqual(cycles.length > 0, graph.nodes.some((node) => reaches(node, node)))

        const covered = new Set<FlowGraph.Edge>()
        for (const { nodes } of cycles) {
          assert.strictEqual(new Set(nodes).size, nodes.length)
          for (const [i, node] of nodes.entries()) {
            const following = nodes[(i + 1) % nodes.length]
            const edge = graph.edges.find(({ from, to }) => from === node && to === following)
            assert.isDefined(edge)
            covered.add(edge!)
          }
        }
        const onCycle = graph.edges.filter(({ from, to }) => to === from || reaches(to, from))
        assert.deepStrictEqual(onCycle.filter((edge) => !covered.has(edge)), [])
        assert.strictEqual(onCycle.length, covered.size)
        assert.strictEqual(new Set(cycles.map(({ path }) => path)).size, cycles.length)
      }),
    { arbitrary: { runs: 300, seed: 3 } }
  )
})

describe("FlowGraph.check: other findings", () => {
  it("unreachable handlers: nobody emits their event, or only handlers that are unreachable themselves", () => {
    const graph = FlowGraph.make({ commands: [Leave], handlers: [Greet, Thank, OnFull] })
    assert.deepStrictEqual(names(FlowGraph.check(graph).unreachableHandlers), ["Greet", "Thank"])
  })

  it("unreachable handlers: a cycle that nothing leads into", () => {
    const graph = FlowGraph.make({ commands: [Leave], handlers: [Greet, Welcome, Mirror] })
    assert.deepStrictEqual(names(FlowGraph.check(graph).unreachableHandlers), ["Greet", "Welcome", "Mirror"])
  })

  it("handlers of notification events from elsewhere are external, not unreachable", () => {
    const Follow = EventHandler.make("Follow", { on: DelayFound, emits: [UserJoined] })
    const graph = FlowGraph.make({ commands: [Join], handlers: [Board, Follow, Count, Mirror] })
    assert.deepStrictEqual(names(FlowGraph.check(graph).externalHandlers), ["Board", "Follow"])
    assert.deepStrictEqual(FlowGraph.check(graph).unreachableHandlers, [])
  })

  it("unhandled: domain events that are emitted and have no handler", () => {
    const graph = FlowGraph.make({ commands: [Join, Leave], handlers: [Greet] })
    assert.deepStrictEqual(names(FlowGraph.check(graph).unhandledEvents), ["MeetingFull", "GreetingSent"])
  })

  it("F14: names that are used twice", () => {
    const Joined2 = class extends DomainEvent.Class<UserJoined>()("UserJoined", { userId: Schema.String }) {}
    const Greet2 = EventHandler.make("Greet", { on: Joined2 })
    assert.deepStrictEqual(
      names(FlowGraph.check(FlowGraph.make({ commands: [Join], handlers: [Greet, Greet2] })).duplicates),
      ["UserJoined", "Greet"]
    )
  })

  it("everything in one readable report", () => {
    const report = FlowGraph.check(
      FlowGraph.make({ commands: [Join, Leave], handlers: [Greet, Welcome, Board, Mirror, Orphan, Count] })
    )
    assert.isFalse(report.isSound)
    assert.strictEqual(
      String(report),
      `2 commands, 6 events, 6 handlers
✗ 2 cycles:
    UserJoined → Greet → GreetingSent → Welcome → UserJoined
    Announced ⇢ Mirror → Announced (through a broker: endless)
✗ 1 handler that no flow reaches:
    Orphan (on Lost)
✗ 1 domain event that nothing handles:
    MeetingFull
i 1 handler of events from other programs:
    Board (on DelayFound, topic "delays")`
    )
  })

  it("a sound program says so", () => {
    const report = FlowGraph.check(FlowGraph.make({ commands: [Leave], handlers: [OnFull] }))
    assert.isTrue(report.isSound)
    assert.strictEqual(
      `${report}`,
      "1 command, 1 event, 1 handler\n✓ no cycles, every handler is reached, every domain event is handled"
    )
  })
})

class Lost extends DomainEvent.Class<Lost>()("Lost", {}) {}
const Orphan = EventHandler.make("Orphan", { on: Lost })

describe("FlowGraph.toMermaid", () => {
  const graph = FlowGraph.make({ commands: [Join, Leave, Seats], handlers: [Greet, Count, Mirror, Board, OnFull] })

  it("draws what is reachable from a command", () => {
    assert.strictEqual(
      FlowGraph.toMermaid(graph, Join),
      `flowchart LR
  command_Join(["Join"])
  event_UserJoined("UserJoined")
  event_Announced{{"Announced<br/>topic meetings"}}
  handler_Greet["Greet"]
  event_GreetingSent("GreetingSent")
  handler_Count["Count"]
  handler_Mirror["Mirror"]
  command_Join --> event_UserJoined
  command_Join --> event_Announced
  event_UserJoined --> handler_Greet
  event_UserJoined --> handler_Count
  event_Announced -.-> handler_Mirror
  handler_Greet --> event_GreetingSent
  handler_Mirror --> event_Announced`
    )
  })

  it("one diagram for every flow, also for those that start outside", () => {
    const all = FlowGraph.toMermaidAll(graph)
    assert.deepStrictEqual(Object.keys(all), ["command_Join", "command_Leave", "command_Seats", "event_DelayFound"])
    assert.strictEqual(all["command_Join"], FlowGraph.toMermaid(graph, Join))
    assert.strictEqual(all["command_Seats"], "flowchart LR\n  command_Seats([\"Seats\"])")
    assert.strictEqual(all["event_DelayFound"], FlowGraph.toMermaid(graph, DelayFound))
  })

  it("loses no diagram where roots have one name: a command and an event, or two commands", () => {
    class Order extends Command.Class<Order>()("Order", { emits: [UserJoined] }) {}
    class Again extends Command.Class<Again>()("Order", { emits: [MeetingFull] }) {}
    class Ordered extends NotificationEvent.Class<Ordered>()("Order", {}, { topic: "orders" }) {}
    const OnOrder = EventHandler.make("OnOrder", { on: Ordered })
    const graph = FlowGraph.make({ commands: [Order, Again], handlers: [OnOrder] })
    assert.deepStrictEqual(FlowGraph.toMermaidAll(graph), {
      command_Order: FlowGraph.toMermaid(graph, Order),
      command_Order_2: FlowGraph.toMermaid(graph, Again),
      event_Order: FlowGraph.toMermaid(graph, Ordered)
    })
    assert.include(FlowGraph.toMermaid(graph, Again), `command_Order_2 --> event_MeetingFull`)
  })

  it("draws everything without a root", () => {
    const lines = FlowGraph.toMermaid(graph).split("\n")
    assert.strictEqual(lines.length, 1 + graph.nodes.length + graph.edges.length)
  })

  it("escapes what Mermaid would read as syntax", () => {
    const Odd = class extends DomainEvent.Class<DomainEvent.Any>()("a\"b[c]#1", {}) {}
    const OnOdd = EventHandler.make("end", { on: Odd })
    assert.strictEqual(
      FlowGraph.toMermaid(FlowGraph.make({ handlers: [OnOdd] })),
      `flowchart LR
  event_a_22_b_5b_c_5d__23_1("a#34;b#91;c#93;#35;1")
  handler_end["end"]
  event_a_22_b_5b_c_5d__23_1 --> handler_end`
    )
  })

  const labelOf = (name: string) =>
    FlowGraph.toMermaid(FlowGraph.make({ handlers: [EventHandler.make(name, { on: UserJoined })] })).split("\n")[2]!
      .replace(/^.*\["(.*)"\]$/, "$1")

  // As read by Mermaid 11, some versions of which show "Unsupported markdown" for a list
  it.each([
    ["orders.v1", "orders.v1"],
    ["my-topic_1 of 2", "my-topic_1 of 2"],
    ["Größe", "Größe"],
    ["1. foo", "1#46;#32;foo"],
    ["- foo", "#45;#32;foo"],
    ["1) foo", "1#41;#32;foo"],
    ["# foo", "#35;#32;foo"],
    ["_foo_", "#95;foo#95;"],
    ["a__b", "a#95;#95;b"],
    ["---", "#45;#45;#45;"],
    ["    foo", "#32;#32;#32;#32;foo"],
    ["www.foo.com", "www#46;foo.com"],
    ["http://foo", "http#58;#47;#47;foo"],
    ["fa:fa-car", "fa#58;fa-car"],
    ["`foo`", "#96;foo#96;"],
    ["<b>", "#60;b#62;"],
    ["a\nb", "a#10;b"],
    ["a\\nb", "a#92;nb"],
    ["", " "]
  ])("escapes what Mermaid would read as Markdown: %s", (name, label) => {
    assert.strictEqual(labelOf(name), label)
  })

  it("tells definitions of one name apart", () => {
    const again = EventHandler.make("Greet", { on: GreetingSent })
    const lines = FlowGraph.toMermaid(FlowGraph.make({ handlers: [Greet, again] }))
    assert.include(lines, "handler_Greet[\"Greet\"]")
    assert.include(lines, "handler_Greet_2[\"Greet\"]")
  })

  it("refuses a root that is not in the graph", () => {
    assert.throws(() => FlowGraph.toMermaid(FlowGraph.make({ commands: [Join] }), Leave), /"Leave" is not in this/)
  })
})
