/**
 * The texts of programs of any size, which do the same: commands with a payload, a response, an error and two events,
 * a handler for each event, one layer of it all, and a function that sends each command once. Every third event is a
 * notification event; every second handler resolves a service once.
 */
import { each, importNames, lines, list } from "./text.ts"

export interface Size {
  readonly commands: number
  readonly events: number
}

/** The files of a program, by name. */
export type Program = Readonly<Record<string, string>>

export const eventFlow = (size: Size): Program => ({
  "events.ts": lines(
    `import { DomainEvent, NotificationEvent } from "@event-flow/core"`,
    `import { Schema } from "effect"`,
    each(size.events, (i) =>
      i % 3 === 2
        ? `export class Ev${i} extends NotificationEvent.Class<Ev${i}>()("Ev${i}", ${fields(i)}, {
  topic: "topic${i}",
  key: (event) => event.id
}) {}`
        : `export class Ev${i} extends DomainEvent.Class<Ev${i}>()("Ev${i}", ${fields(i)}) {}`)
  ),
  "commands.ts": lines(
    `import { Command } from "@event-flow/core"`,
    `import { Effect, Schema } from "effect"`,
    `import { Repository } from "./repository.ts"`,
    importNames(size.events, "Ev", "./events.ts"),
    faults,
    each(size.commands, (i) => {
      const [first, second] = emitted(i, size)
      const handler = runs(
        "command, { collectAll }",
        i,
        `yield* collectAll([${newEvent(first, "command.id")}, ${newEvent(second, "command.id")}])`
      )
      return `
export class Co${i} extends Command.Class<Co${i}>()("Co${i}", {
  payload: ${fields(i)},
  success: Schema.Int,
  error: Fault${i % faultCount},
  emits: [Ev${first}, Ev${second}]
}) {}

export const Co${i}Live = Co${i}.toLayer(${i % 2 === 0 ? handler : resolving(handler)})`
    })
  ),
  "handlers.ts": lines(
    `import { EventHandler } from "@event-flow/core"`,
    `import { Effect } from "effect"`,
    `import { Repository } from "./repository.ts"`,
    importNames(size.events, "Ev", "./events.ts"),
    each(size.events, (i) => {
      const next = (i + 1) % size.events
      const handler = i % 3 === 0
        ? `(event, { collect }) => collect(${newEvent(next, "event.id")})`
        : i % 2 === 0
        ? `(event) => Effect.log(event.id)`
        : `(event) => Effect.asVoid(repository.load(event.id))`
      return `
export const On${i} = EventHandler.make("On${i}", { on: Ev${i}${i % 3 === 0 ? `, emits: [Ev${next}]` : ""} })

export const On${i}Live = On${i}.toLayer(${i % 2 === 0 ? handler : resolving(`On${i}.of(${handler})`)})`
    })
  ),
  "repository.ts": repository,
  "main.ts": lines(
    `import { Broker, EventFlow, Mediator } from "@event-flow/core"`,
    `import { Effect, Layer } from "effect"`,
    `import { Repository } from "./repository.ts"`,
    importNames(size.commands, "Co", "./commands.ts"),
    importNames(size.commands, "Co", "./commands.ts", "Live"),
    importNames(size.events, "On", "./handlers.ts"),
    importNames(size.events, "On", "./handlers.ts", "Live"),
    flow(size),
    program(size, (i) => `Mediator.send(${newCommand(i)})`)
  )
})

/** With Schema classes and a service for each command; an event is a call of its handler. */
export const plain = (size: Size): Program => ({
  "events.ts": lines(
    `import { Schema } from "effect"`,
    each(size.events, (i) => `export class Ev${i} extends Schema.TaggedClass<Ev${i}>()("Ev${i}", ${fields(i)}) {}`)
  ),
  "commands.ts": lines(
    `import { Context, Effect, Layer, Schema } from "effect"`,
    `import { Repository } from "./repository.ts"`,
    importNames(size.events, "Ev", "./events.ts"),
    importNames(size.events, "on", "./handlers.ts"),
    faults,
    each(size.commands, (i) => {
      const [first, second] = emitted(i, size)
      const handler = `Co${i}Service.of({ run: ${
        runs(
          "command",
          i,
          `yield* on${first}(${newEvent(first, "command.id")})
    yield* on${second}(${newEvent(second, "command.id")})`
        )
      } })`
      return `
export class Co${i} extends Schema.TaggedClass<Co${i}>()("Co${i}", ${fields(i)}) {}

export class Co${i}Service extends Context.Service<Co${i}Service, {
  readonly run: (command: Co${i}) => Effect.Effect<number, Fault${i % faultCount}, Repository>
}>()("Co${i}Service") {}

export const Co${i}Live = Layer.effect(Co${i}Service, ${
        i % 2 === 0 ? `Effect.succeed(${handler})` : resolving(handler)
      })`
    })
  ),
  "handlers.ts": lines(
    `import { Effect } from "effect"`,
    `import { Repository } from "./repository.ts"`,
    importNames(size.events, "Ev", "./events.ts"),
    each(size.events, (i) => {
      const next = (i + 1) % size.events
      return i % 3 === 0
        ? `export const on${i} = (event: Ev${i}) => Effect.log(${newEvent(next, "event.id")})`
        : i % 2 === 0
        ? `export const on${i} = (event: Ev${i}) => Effect.log(event.id)`
        : `export const on${i} = (event: Ev${i}) => Repository.use((repository) => repository.load(event.id))`
    })
  ),
  "repository.ts": repository,
  "main.ts": lines(
    `import { Effect, Layer } from "effect"`,
    `import { Repository } from "./repository.ts"`,
    importNames(size.commands, "Co", "./commands.ts"),
    importNames(size.commands, "Co", "./commands.ts", "Service"),
    importNames(size.commands, "Co", "./commands.ts", "Live"),
    `export const Main = Layer.mergeAll(${list(size.commands, (i) => `Co${i}Live`)}).pipe(
  Layer.provideMerge(Repository.layer)
)`,
    program(size, (i) => `Co${i}Service.use((service) => service.run(${newCommand(i)}))`)
  )
})

/** What importing the libraries costs: the floor of both. */
export const imports: Program = {
  "main.ts": lines(
    `import { Broker, Command, DomainEvent, EventFlow, EventHandler, Mediator } from "@event-flow/core"`,
    `import { Context, Effect, Layer, Schema } from "effect"`,
    `export const all = [Broker, Command, Context, DomainEvent, Effect, EventFlow, EventHandler, Layer, Mediator, Schema]`
  )
}

// --- internal ---

const flow = ({ commands, events }: Size) => `
export class Clinic extends EventFlow.make("Clinic", {
  commands: [${list(commands, (i) => `Co${i}`)}],
  handlers: [${list(events, (i) => `On${i}`)}]
}) {}

export const Main = Clinic.layer().pipe(
  Layer.provide(Layer.mergeAll(${list(commands, (i) => `Co${i}Live`)})),
  Layer.provide(Layer.mergeAll(Broker.layerNone, ${list(events, (i) => `On${i}Live`)})),
  Layer.provide(Repository.layer)
)`

const faultCount = 20

const faults = each(
  faultCount,
  (i) => `export class Fault${i} extends Schema.TaggedError<Fault${i}>()("Fault${i}", {}) {}`
)

const repository = lines(
  `import { Context, Effect, Layer } from "effect"`,
  `export class Repository extends Context.Service<Repository, {`,
  `  readonly load: (id: string) => Effect.Effect<number>`,
  `}>()("Repository") {`,
  `  static readonly layer = Layer.succeed(Repository, { load: () => Effect.succeed(1) })`,
  `}`
)

/** Programs repeat some shapes and not others: in every second definition, a field has a name of its own. */
const amount = (i: number): string => i % 2 === 0 ? "amount" : `amount${i}`

const fields = (i: number): string =>
  `{ id: Schema.String, ${amount(i)}: Schema.Int, note: Schema.optionalKey(Schema.String) }`

const newEvent = (i: number, id: string): string => `new Ev${i}({ id: ${id}, ${amount(i)}: ${i} })`

const newCommand = (i: number): string => `new Co${i}({ id: "${i}", ${amount(i)}: ${i} })`

const emitted = (i: number, { commands, events }: Size): readonly [number, number] => [
  i % events,
  (commands + i) % events
]

/** The function that handles a command: it may ask a service, may fail, and emits. */
const runs = (parameters: string, i: number, emit: string): string =>
  `Effect.fnUntraced(function*(${parameters}) {
    const count = ${i % 2 === 0 ? "command.id.length" : "yield* repository.load(command.id)"}
    if (count < 0) return yield* new Fault${i % faultCount}()
    ${emit}
    return count
  })`

const resolving = (handler: string): string => `Effect.map(Repository, (repository) => ${handler})`

/** The last line holds the compiler to having resolved everything. */
const program = ({ commands }: Size, send: (i: number) => string): string => `
export const program = Effect.gen(function*() {
  let sum = 0
${each(commands, (i) => `  sum += yield* ${send(i)}`)}
  return sum
})

export const result: Promise<number> = Effect.runPromise(Effect.provide(program, Main))`
