/** The library as a program in production uses it. */
import * as Broker from "@event-flow/core/Broker"
import * as Command from "@event-flow/core/Command"
import * as EventConsumer from "@event-flow/core/EventConsumer"
import * as EventFlow from "@event-flow/core/EventFlow"
import * as FlowObserver from "@event-flow/core/FlowObserver"
import * as Inbox from "@event-flow/core/Inbox"
import * as Mediator from "@event-flow/core/Mediator"
import type * as Message from "@event-flow/core/Message"
import * as Telemetry from "@event-flow/core/Telemetry"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as ManagedRuntime from "effect/ManagedRuntime"
import * as Schema from "effect/Schema"
import * as flow from "../flow.ts"
import { first, second, third } from "../flow.ts"
import { Count, Source } from "../memorySource.ts"
import { countHandler, countMessage, meetingId, tally, userId } from "../workload.ts"
import { concurrentSends, type Configuration, nestedSends, type Workload } from "./configurations.ts"
import * as guarded from "./guarded.ts"
import { measuredMessage } from "./messages.ts"
import { performing, type Run, type Sessions, Surroundings } from "./surroundings.ts"

class JoinAll extends Command.Class<JoinAll>()("JoinAll", {
  payload: { meetingId: Schema.String, userId: Schema.String, seat: Schema.Number },
  success: Schema.Number,
  sends: [flow.Join]
}) {}

const firstHandlers = [first.definition] as const
const allHandlers = [first.definition, second.definition, third.definition] as const

const FirstLive = first.definition.toLayer(first.handle)
const HandlersLive = Layer.mergeAll(
  FirstLive,
  second.definition.toLayer(second.handle),
  third.definition.toLayer(third.handle)
)
const OnStepLive = flow.OnStep.toLayer(flow.onStep)

const nothingBroker = (isRead: boolean) =>
  Layer.succeed(Broker.Broker)({
    name: "nothing",
    publish: (messages) =>
      Effect.sync(() => {
        for (const message of messages) {
          countMessage(message.body!)
          if (isRead && message.attributes["id"] === undefined) throw new Error("a message without an id")
        }
      })
  })

class Plain1 extends EventFlow.make("Plain1", { commands: [flow.Join] }) {}
class Plain2 extends EventFlow.make("Plain2", { commands: [flow.JoinOne], handlers: firstHandlers }) {}
class Plain3 extends EventFlow.make("Plain3", { commands: [flow.JoinMany], handlers: allHandlers }) {}
class Plain5 extends EventFlow.make("Plain5", { commands: [flow.JoinStep], handlers: [flow.OnStep] }) {}
class Plain6 extends EventFlow.make("Plain6", { commands: [flow.JoinNotify] }) {}
class PlainNested extends EventFlow.make("PlainNested", { commands: [flow.Join, JoinAll] }) {}
class Guarded1 extends EventFlow.make("Guarded1", { commands: [guarded.Join] }) {}
class Guarded2 extends EventFlow.make("Guarded2", { commands: [guarded.JoinOne], handlers: firstHandlers }) {}
class Guarded3 extends EventFlow.make("Guarded3", { commands: [guarded.JoinMany], handlers: allHandlers }) {}
class Guarded5 extends EventFlow.make("Guarded5", { commands: [guarded.JoinStep], handlers: [flow.OnStep] }) {}
class Guarded6 extends EventFlow.make("Guarded6", { commands: [guarded.JoinNotify] }) {}
class GuardedNested extends EventFlow.make("GuardedNested", { commands: [guarded.Join, guarded.JoinAll] }) {}

const JoinLive = flow.Join.toLayer(flow.join)
const GuardedJoinLive = guarded.Join.toLayer(guarded.signedIn(flow.join))

const payload = (seat: number) => ({ meetingId, userId, seat })

const sendPlain = (seat: number) => Mediator.send(new flow.Join(payload(seat)))
const sendGuarded = (seat: number) => Mediator.send(new guarded.Join(payload(seat)))

const joinAll = <E, R>(send: (seat: number) => Effect.Effect<number, E, R>) =>
  Effect.fnUntraced(function*(command: { readonly seat: number }) {
    tally.commands += 1
    for (let i = 0; i < nestedSends; i++) tally.nested += yield* send(command.seat)
    return command.seat
  })

const atOnce = <E, R>(send: (seat: number) => Effect.Effect<number, E, R>) => (seat: number) =>
  Effect.as(
    Effect.forEach(hundred, () => Effect.map(send(seat), (answer) => void (tally.nested += answer)), {
      concurrency: "unbounded",
      discard: true
    }),
    seat
  )
const hundred = Array.from({ length: concurrentSends }, (_, i) => i)

export const setup = (workload: Workload, configuration: Configuration): Run => {
  const { metrics = false, middleware, observer } = configuration
  const Watching = Layer.mergeAll(
    Telemetry.layer({ metrics }),
    observer ? FlowObserver.layer(FlowObserver.make({ isSampled: () => false })) : Layer.empty
  )
  const run = <R, E, EX>(
    layer: Layer.Layer<R, EX, Sessions>,
    unit: (seat: number) => Effect.Effect<number, E, R | Sessions>
  ): Run => {
    const around = Surroundings(configuration)
    const runtime = ManagedRuntime.make(
      layer.pipe(Layer.provide(Watching), Layer.provideMerge(around))
    )
    const perform = performing(configuration, unit)
    return (units) => runtime.runPromise(perform(units))
  }
  const { signedIn } = guarded
  const { AuthenticationLive } = guarded
  switch (workload) {
    case "W1":
      return middleware
        ? run(Guarded1.layer().pipe(Layer.provide(GuardedJoinLive), Layer.provide(AuthenticationLive)), sendGuarded)
        : run(Layer.provide(Plain1.layer(), JoinLive), sendPlain)
    case "concurrent":
      return middleware
        ? run(
          Guarded1.layer().pipe(Layer.provide(GuardedJoinLive), Layer.provide(AuthenticationLive)),
          atOnce(sendGuarded)
        )
        : run(Layer.provide(Plain1.layer(), JoinLive), atOnce(sendPlain))
    case "nested":
      return middleware
        ? run(
          GuardedNested.layer().pipe(
            Layer.provide([GuardedJoinLive, guarded.JoinAll.toLayer(joinAll(sendGuarded))]),
            Layer.provide(AuthenticationLive)
          ),
          (seat) => Mediator.send(new guarded.JoinAll(payload(seat)))
        )
        : run(
          Layer.provide(PlainNested.layer(), [JoinLive, JoinAll.toLayer(joinAll(sendPlain))]),
          (seat) => Mediator.send(new JoinAll(payload(seat)))
        )
    case "W2":
      return middleware
        ? run(
          Guarded2.layer().pipe(
            Layer.provide([guarded.JoinOne.toLayer(signedIn(flow.joinOne)), FirstLive]),
            Layer.provide(AuthenticationLive)
          ),
          (seat) => Mediator.send(new guarded.JoinOne(payload(seat)))
        )
        : run(
          Layer.provide(Plain2.layer(), [flow.JoinOne.toLayer(flow.joinOne), FirstLive]),
          (seat) => Mediator.send(new flow.JoinOne(payload(seat)))
        )
    case "W3":
      return middleware
        ? run(
          Guarded3.layer().pipe(
            Layer.provide([guarded.JoinMany.toLayer(signedIn(flow.joinMany)), HandlersLive]),
            Layer.provide(AuthenticationLive)
          ),
          (seat) => Mediator.send(new guarded.JoinMany(payload(seat)))
        )
        : run(
          Layer.provide(Plain3.layer(), [flow.JoinMany.toLayer(flow.joinMany), HandlersLive]),
          (seat) => Mediator.send(new flow.JoinMany(payload(seat)))
        )
    case "W5":
      return middleware
        ? run(
          Guarded5.layer().pipe(
            Layer.provide([guarded.JoinStep.toLayer(signedIn(flow.joinStep)), OnStepLive]),
            Layer.provide(AuthenticationLive)
          ),
          (seat) => Mediator.send(new guarded.JoinStep(payload(seat)))
        )
        : run(
          Layer.provide(Plain5.layer(), [flow.JoinStep.toLayer(flow.joinStep), OnStepLive]),
          (seat) => Mediator.send(new flow.JoinStep(payload(seat)))
        )
    case "W6":
    case "W6-read": {
      const broker = nothingBroker(workload === "W6-read")
      return middleware
        ? run(
          Guarded6.layer().pipe(
            Layer.provide([guarded.JoinNotify.toLayer(signedIn(flow.joinNotify)), broker]),
            Layer.provide(AuthenticationLive)
          ),
          (seat) => Mediator.send(new guarded.JoinNotify(payload(seat)))
        )
        : run(
          Layer.provide(Plain6.layer(), [flow.JoinNotify.toLayer(flow.joinNotify), broker]),
          (seat) => Mediator.send(new flow.JoinNotify(payload(seat)))
        )
    }
    case "consume": {
      const hasInbox = configuration.metrics && configuration.tracing !== undefined
      const source = new Source((i): Message.Message => measuredMessage(i, configuration))
      const CountLive = Count.toLayer((event) => Effect.sync(() => countHandler({ meetingId, userId, seat: event.i })))
      const ports = Layer.mergeAll(CountLive, Broker.layerNone, source.layer, Inbox.layerMemory())
      const options = { group: "bench", concurrency: 16, maxInFlight: 2_000 }
      const runtime = ManagedRuntime.make(
        (hasInbox ? EventConsumer.layer([Count], { ...options, dedupe: true }) : EventConsumer.layer([Count], options))
          .pipe(Layer.provide(ports), Layer.provide(Watching), Layer.provideMerge(Surroundings(configuration)))
      )
      return async (units) => {
        await runtime.runPromise(Effect.void)
        await source.run(units)
      }
    }
  }
}
