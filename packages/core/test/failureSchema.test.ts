import { assert, it } from "@effect/vitest"
import { Broker, Command, DomainEvent, EventFlowError, Mediator, Middleware } from "@event-flow/core"
import { Schema } from "effect"

class Full extends Schema.TaggedError<Full>()("Full", {}) {}
class Missing extends Schema.TaggedError<Missing>()("Missing", {}) {}
class Denied extends Schema.TaggedError<Denied>()("Denied", {}) {}
class Joined extends DomainEvent.Class<Joined>()("Joined", {}) {}
const deny = Middleware.make((effect) => effect, { error: Schema.Union([Denied, Missing]) })

class Join extends Command.Class<Join>()("Join", {
  error: Schema.Union([Full, Schema.Union([Missing])]),
  emits: [Joined],
  middleware: [deny, Middleware.logging, Middleware.timeout("1 second")]
}) {}
class Quiet extends Command.Class<Quiet>()("Quiet", {}) {}
class App extends Mediator.Service<App>()("App", { middleware: [deny] }) {}

it("the members of failureSchema are the errors one by one, each once", () => {
  assert.deepStrictEqual(Command.failureSchema(Join).members, [
    Full,
    Missing,
    Denied,
    Middleware.CommandTimeout,
    EventFlowError.EventHandlerError,
    Broker.BrokerNotFound,
    Broker.PublishError,
    EventFlowError.CascadeTooDeep,
    EventFlowError.EventsFailed
  ])
  assert.deepStrictEqual(Command.failureSchema(Quiet).members, [])
  assert.deepStrictEqual(App.failureSchema(Quiet).members, [Denied, Missing])
})

it("failureSchema keeps a union whole that has an annotation, or a check, of its own", () => {
  const annotated = Schema.Union([Full, Missing]).annotate({ httpApiStatus: 409 })
  class Annotated extends Command.Class<Annotated>()("Annotated", { error: annotated }) {}
  assert.deepStrictEqual(Command.failureSchema(Annotated).members.map(({ ast }): unknown => ast), [annotated.ast])
  const checked = Schema.Union([Schema.String, Schema.Int]).check(Schema.makeFilter((error) => error !== ""))
  class Checked extends Command.Class<Checked>()("Checked", { error: checked }) {}
  assert.deepStrictEqual(Command.failureSchema(Checked).members.map(({ ast }): unknown => ast), [checked.ast])
})
