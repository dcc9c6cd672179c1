/** The graph as a diagram. */
import { assert, describe, it } from "@effect/vitest"
import { Command, DomainEvent, EventHandler, FlowGraph, NotificationEvent } from "@event-flow/core"
import {
  Board,
  Count,
  DelayFound,
  Greet,
  GreetingSent,
  Join,
  Leave,
  MeetingFull,
  Mirror,
  OnFull,
  Seats,
  UserJoined
} from "./support.ts"

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
