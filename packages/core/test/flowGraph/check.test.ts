/** What the graph finds wrong. */
import { assert, describe, it } from "@effect/vitest"
import { DomainEvent, type Event, EventHandler, FlowGraph, NotificationEvent } from "@event-flow/core"
import { Effect, Schema } from "effect"
import {
  Board,
  Count,
  DelayFound,
  Greet,
  GreetingSent,
  Join,
  Leave,
  Mirror,
  names,
  OnFull,
  Orphan,
  Thank,
  UserJoined,
  Welcome
} from "./support.ts"

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
