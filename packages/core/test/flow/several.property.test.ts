/** Random flows, joined at random: every command goes through its own flow, nothing is dropped, nothing comes twice. */
import { assert, it } from "@effect/vitest"
import { Command, DomainEvent, EventFlow, EventHandler, type EventMap, Mediator, type Settings } from "@event-flow/core"
import { Effect, Layer, Schema } from "effect"
import { RecordingLogger } from "../fixtures.ts"

const kinds = 3
const below = (n: number) => Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: n - 1 }))

/** A flow: the events that its one command collects, and those that its handlers handle, each by one of them. */
const Shape = Schema.Struct({
  emits: Schema.Array(below(kinds)).check(Schema.isMaxLength(4)),
  handles: Schema.Array(below(kinds)).check(Schema.isMaxLength(4)),
  /** Flows of a group are made one with `flows`. */
  group: below(3),
  concurrency: Schema.Literals([1, 4]),
  isMerged: Schema.Boolean
})
const Program = Schema.Struct({
  flows: Schema.Array(Shape).check(Schema.isMinLength(2), Schema.isMaxLength(5)),
  sends: Schema.Array(below(5)).check(Schema.isMinLength(1), Schema.isMaxLength(6)),
  atOnce: Schema.Boolean
})

/** All flows know the same events. */
const events = Array.from({ length: kinds }, (_, kind) => {
  class Happened extends DomainEvent.Class<Happened>()(`Happened${kind}`, { send: Schema.Int }) {}
  return Happened
})

const makeFlow = ({ emits, handles }: typeof Shape.Type, index: number, seen: Array<string>) => {
  class Go extends Command.Class<Go>()(`Go${index}` as string, { payload: { send: Schema.Int }, emits: events }) {}
  const handlers = handles.map((kind, i) => EventHandler.make(`Handler${index}.${i}` as string, { on: events[kind]! }))
  const flow = EventFlow.make(`Flow${index}` as string, { commands: [Go], handlers })
  const implementations = handlers.map((handler) =>
    handler.toLayer(({ _tag, send }) => Effect.sync(() => void seen.push(`${send}: ${_tag} in ${handler.name}`)))
  )
  const live = Go.toLayer(({ send }, { collectAll }) => collectAll(emits.map((kind) => new events[kind]!({ send }))))
  const all: Layer.Layer<any> = implementations.reduce<Layer.Layer<any>>((some, one) => Layer.merge(some, one), live)
  // A flow may have no handlers
  return { Go, flow, implementations: all as Implementations }
}

type Implementations = Layer.Layer<
  Command.CommandImplementation<string> | EventHandler.EventHandlerImplementation<string>
>

type Flows = Layer.Layer<Command.CommandFlow<string>, EventMap.DuplicateDefinition | Settings.InvalidSetting>

const join = (layers: ReadonlyArray<{ readonly layer: Flows; readonly isMerged: boolean }>): Flows =>
  layers.reduce((all, { isMerged, layer }) => ({
    isMerged,
    layer: isMerged ? Layer.merge(all.layer, layer) : Layer.provideMerge(layer, all.layer)
  })).layer

it.effect.prop(
  "F19: random flows, joined at random",
  [Program],
  ([{ atOnce, flows: shapes, sends }]) =>
    Effect.gen(function*() {
      const seen: Array<string> = []
      const flows = shapes.map((shape, index) => ({ shape, ...makeFlow(shape, index, seen) }))
      const groups = [0, 1, 2].map((group) => flows.filter(({ shape }) => shape.group === group))
        .filter((group) => group.length > 0)
      const layers = groups.map((group, i) => {
        const { concurrency, isMerged } = group[0]!.shape
        const whole = group.length === 1
          ? group[0]!.flow
          : EventFlow.make(`Group${i}` as string, { flows: group.map(({ flow }) => flow) })
        const implementations = group.map((one) => one.implementations).reduce((all, one) => Layer.merge(all, one))
        const layer: Flows = Layer.provide(whole.layer({ concurrency }), implementations)
        return { isMerged, layer }
      })
      const sent = sends.map((i, send) => ({ flow: flows[i % flows.length]!, send }))
      yield* Effect.forEach(sent, ({ flow: { Go }, send }) => Mediator.send(new Go({ send })), {
        concurrency: atOnce ? "unbounded" : 1
      }).pipe(Effect.provide([join(layers), new RecordingLogger().layer]))

      const expected = sent.flatMap(({ flow, send }) =>
        flow.shape.emits.flatMap((kind) =>
          groups.find((group) => group.includes(flow))!.flatMap((member) =>
            member.flow.handlers.filter(({ on }) => on[0] === events[kind])
              .map(({ name }) => `${send}: Happened${kind} in ${name}`)
          )
        )
      )
      assert.deepStrictEqual(seen.sort(), expected.sort())
    }),
  { arbitrary: { runs: 100, seed: 1 } }
)
