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

describe("FlowGraph.cycles", () => {
  it("F10: shows a cycle as a path", () => {
    const graph = FlowGraph.make({ commands: [Join], handlers: [Greet, Welcome, Thank] })
    const [cycle, ...others] = FlowGraph.cycles(graph)
    assert.strictEqual(cycle?.path, "UserJoined → Greet → GreetingSent → Welcome → UserJoined")
    assert.isFalse(cycle?.isThroughBroker)
    assert.deepStrictEqual(others, [])
  })

  it("marks a cycle through a broker", () => {
    const graph = FlowGraph.make({ commands: [Join], handlers: [Mirror] })
    const [cycle] = FlowGraph.cycles(graph)
    assert.strictEqual(cycle?.path, "Announced ⇢ Mirror → Announced")
    assert.isTrue(cycle?.isThroughBroker)
  })

  it("shows every step to blame, each cycle once", () => {
    const Again = EventHandler.make("Again", { on: UserJoined, emits: [UserJoined] })
    const graph = FlowGraph.make({ handlers: [Greet, Welcome, Again, Mirror] })
    assert.deepStrictEqual(FlowGraph.cycles(graph).map((cycle) => cycle.path), [
      "UserJoined → Greet → GreetingSent → Welcome → UserJoined",
      "UserJoined → Again → UserJoined",
      "Announced ⇢ Mirror → Announced"
    ])
  })

  it("finds none where follow-ups only come together again", () => {
    const Other = EventHandler.make("Other", { on: UserJoined, emits: [GreetingSent] })
    assert.deepStrictEqual(FlowGraph.cycles(FlowGraph.make({ commands: [Join], handlers: [Greet, Other, Thank] })), [])
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

        const cycles = FlowGraph.cycles(graph)
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

describe("FlowGraph findings", () => {
  it("unreachable handlers: nobody emits their event, or only handlers that are unreachable themselves", () => {
    const graph = FlowGraph.make({ commands: [Leave], handlers: [Greet, Thank, OnFull] })
    assert.deepStrictEqual(names(FlowGraph.unreachableHandlers(graph)), ["Greet", "Thank"])
  })

  it("unreachable handlers: a cycle that nothing leads into", () => {
    const graph = FlowGraph.make({ commands: [Leave], handlers: [Greet, Welcome, Mirror] })
    assert.deepStrictEqual(names(FlowGraph.unreachableHandlers(graph)), ["Greet", "Welcome", "Mirror"])
  })

  it("handlers of notification events from elsewhere are external, not unreachable", () => {
    const Follow = EventHandler.make("Follow", { on: DelayFound, emits: [UserJoined] })
    const graph = FlowGraph.make({ commands: [Join], handlers: [Board, Follow, Count, Mirror] })
    assert.deepStrictEqual(names(FlowGraph.externalHandlers(graph)), ["Board", "Follow"])
    assert.deepStrictEqual(FlowGraph.unreachableHandlers(graph), [])
  })

  it("unhandled: domain events that are emitted and have no handler", () => {
    const graph = FlowGraph.make({ commands: [Join, Leave], handlers: [Greet] })
    assert.deepStrictEqual(names(FlowGraph.unhandledEvents(graph)), ["MeetingFull", "GreetingSent"])
  })

  it("F14: names that are used twice", () => {
    const Joined2 = class extends DomainEvent.Class<UserJoined>()("UserJoined", { userId: Schema.String }) {}
    const Greet2 = EventHandler.make("Greet", { on: Joined2 })
    assert.deepStrictEqual(
      names(FlowGraph.duplicates(FlowGraph.make({ commands: [Join], handlers: [Greet, Greet2] }))),
      ["UserJoined", "Greet"]
    )
  })

  it("check: everything in one readable report", () => {
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

  it("check: a sound program says so", () => {
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
    assert.deepStrictEqual(Object.keys(all), ["Join", "Leave", "Seats", "DelayFound"])
    assert.strictEqual(all["Join"], FlowGraph.toMermaid(graph, Join))
    assert.strictEqual(all["Seats"], "flowchart LR\n  command_Seats([\"Seats\"])")
    assert.strictEqual(all["DelayFound"], FlowGraph.toMermaid(graph, DelayFound))
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
