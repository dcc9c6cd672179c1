/**
 * What the types of `Resilience` promise: which errors are left, and that handlers keep their contextual types.
 * Checked by `tsc`, never run.
 */
// @effect-diagnostics missingEffectContext:off
// @effect-diagnostics missingEffectError:off
import { Command, DomainEvent, EventHandler, NotificationEvent, Resilience } from "@event-flow/core"
import { Context, Effect, type Exit, flow, type Layer, pipe, Schedule, Schema } from "effect"
import { CircuitBreaker } from "effect/persistence"

class Full extends Schema.TaggedError<Full>()("Full", {}) {}
class Down extends Schema.TaggedError<Down>()("Down", { host: Schema.String }) {}
class Slow extends Schema.TaggedError<Slow>()("Slow", {}) {}

class Joined extends DomainEvent.Class<Joined>()("Joined", { userId: Schema.String }) {}
class Announced extends NotificationEvent.Class<Announced>()("Announced", { id: Schema.String }, { topic: "t" }) {}

class Join extends Command.Class<Join>()("Join", {
  payload: { userId: Schema.String },
  success: Schema.Int,
  error: Full,
  emits: [Joined]
}) {}

class JoinGuarded extends Command.Class<JoinGuarded>()("JoinGuarded", {
  payload: { userId: Schema.String },
  success: Schema.Int,
  error: Schema.Union([Full, Resilience.HandlerTimeout, CircuitBreaker.CircuitBreakerError]),
  emits: [Joined]
}) {}

const Greet = EventHandler.make("Greet", { on: Joined, emits: [Announced], error: Full })

class Rooms extends Context.Service<Rooms, {
  readonly join: (userId: string) => Effect.Effect<number, Full | Down>
}>()("Rooms") {}

declare const schedule: Schedule.Schedule<number>
declare const breaker: CircuitBreaker.CircuitBreaker
declare const risky: (userId: string) => Effect.Effect<number, Full | Down | Slow, Rooms>

type Equals<A, B> = (<T>() => T extends A ? 1 : 2) extends <T>() => T extends B ? 1 : 2 ? true : false
const check = <T extends true>(): T | undefined => undefined
type ErrorOf<H> = H extends (...args: infer _) => Effect.Effect<infer _A, infer E, infer _R> ? E : "no handler"
type ServicesOf<H> = H extends (...args: infer _) => Effect.Effect<infer _A, infer _E, infer R> ? R : "no handler"

// --- handlers keep their contextual types ---

/** The form of the docs: the command and `collect` are typed by the definition. */
export const JoinLive: Layer.Layer<Command.CommandImplementation<"JoinGuarded">, never, CircuitBreaker.CircuitBreaker> =
  JoinGuarded
    .toLayer(Effect.gen(function*() {
      const breaker = yield* CircuitBreaker.CircuitBreaker
      return Resilience.circuitBreaker(
        JoinGuarded.of((command, { collect }) => Effect.as(collect(new Joined({ userId: command.userId })), 1)),
        breaker
      )
    }))

/** Without `of`: the types come from `toLayer`. */
export const JoinInline = Join.toLayer(
  Resilience.retry((command, { collect }) => Effect.as(collect(new Joined({ userId: command.userId })), 1), {
    schedule
  })
)

export const GreetLive = Greet.toLayer(
  Resilience.retry(
    Greet.of(Effect.fnUntraced(function*(event, { collect }) {
      yield* collect(new Announced({ id: event.userId }))
    })),
    { schedule }
  )
)

Join.toLayer(Resilience.retry(
  // @ts-expect-error an event that the command does not declare
  Join.of((_, { collect }) => Effect.as(collect(new Announced({ id: "a" })), 1)),
  { schedule }
))

Greet.toLayer(Resilience.retry(
  // @ts-expect-error the event has no such field
  Greet.of((event) => Effect.log(event.meetingId)),
  { schedule }
))

// --- handler: typed but for its errors ---

const open = Resilience.handler(Join)((command) => risky(command.userId))
check<Equals<ErrorOf<typeof open>, Full | Down | Slow>>()
check<Equals<ServicesOf<typeof open>, Rooms>>()

// @ts-expect-error Down and Slow are not declared by the command
Join.toLayer([Rooms], open)

// @ts-expect-error a handler of the command answers with a number
Resilience.handler(Join)(() => Effect.succeed("one"))

// @ts-expect-error the command declares no Announced
Resilience.handler(Join)((_, { collect }) => Effect.as(collect(new Announced({ id: "a" })), 1))

const onJoined = Resilience.handler(Greet)((event, { collect }) =>
  Effect.andThen(collect(new Announced({ id: event.userId })), new Down({ host: "h" }))
)
check<Equals<ErrorOf<typeof onJoined>, Down>>()

// --- retry ---

const retried = Resilience.retry(open, { schedule, while: (error) => error._tag === "Down" })
check<Equals<ErrorOf<typeof retried>, Full | Down | Slow>>()

Resilience.retry(open, {
  schedule,
  // @ts-expect-error the handler cannot fail with Gone
  while: (error) => error._tag === "Gone"
})

/** A schedule that looks at the failure sees those of the handler. */
export const byHost = Resilience.retry(open, {
  schedule: Schedule.recurs(3).pipe(
    Schedule.setInputType<Full | Down | Slow>(),
    Schedule.while(({ input }) => input._tag === "Down" && input.host === "a")
  )
})

// --- timeout ---

const timed = Resilience.timeout(Join.of((command) => Effect.succeed(command.userId.length)), "1 second")
check<Equals<ErrorOf<typeof timed>, Full | Resilience.HandlerTimeout>>()

// @ts-expect-error the command does not declare HandlerTimeout
Join.toLayer(timed)

// --- fallback ---

const all = Resilience.fallback(open, { to: () => Effect.succeed(0) })
check<Equals<ErrorOf<typeof all>, never>>()

const others = Resilience.fallback(open, {
  to: (command, _, error) => {
    check<Equals<typeof error, Full | Down | Slow>>()
    return command.userId === "a" ? Effect.succeed(0) : new Slow()
  }
})
check<Equals<ErrorOf<typeof others>, Slow>>()

const some = Resilience.fallback(open, {
  on: ["Down", "Slow"],
  to: (command, { collect }, error) => {
    check<Equals<typeof error, Down | Slow>>()
    return Effect.as(collect(new Joined({ userId: command.userId })), 0)
  }
})
check<Equals<ErrorOf<typeof some>, Full>>()
check<Equals<ServicesOf<typeof some>, Rooms>>()

/** What is left is what the command declares. */
export const Fallen: Layer.Layer<Command.CommandImplementation<"Join">, never, Rooms> = Join.toLayer([Rooms], some)

// @ts-expect-error Slow is left
Join.toLayer([Rooms], Resilience.fallback(open, { on: ["Down"], to: () => Effect.succeed(0) }))

Resilience.fallback(open, {
  // @ts-expect-error the handler cannot fail with Gone
  on: ["Gone"],
  to: () => Effect.succeed(0)
})

Resilience.fallback(open, {
  on: ["Down"],
  // @ts-expect-error the command declares no Announced
  to: (_, { collect }) => Effect.as(collect(new Announced({ id: "a" })), 0)
})

const withService = Resilience.fallback(Join.of(() => Effect.fail(new Full())), {
  to: (command) => Rooms.use((rooms) => rooms.join(command.userId))
})
check<Equals<ErrorOf<typeof withService>, Full | Down>>()
check<Equals<ServicesOf<typeof withService>, Rooms>>()

// --- circuit breaker ---

const guarded = Resilience.circuitBreaker(open, breaker)
check<Equals<ErrorOf<typeof guarded>, Full | Down | Slow | CircuitBreaker.CircuitBreakerError>>()

const byUser = Resilience.circuitBreaker(Join.of((command) => Effect.succeed(command.userId.length)), breaker, {
  key: (command) => command.userId,
  classify: (exit) => {
    check<Equals<typeof exit, Exit.Exit<number, Full>>>()
    return CircuitBreaker.failure()
  }
})
check<Equals<ErrorOf<typeof byUser>, Full | CircuitBreaker.CircuitBreakerError>>()

const elsewhere = Resilience.fallback(byUser, {
  on: ["CircuitBreakerError"],
  to: (command, { collect }, error) =>
    Effect.as(collect(new Joined({ userId: `${command.userId} ${error.reason._tag}` })), 0)
})
check<Equals<ErrorOf<typeof elsewhere>, Full>>()

export const Guarded: Layer.Layer<Command.CommandImplementation<"Join">> = Join.toLayer(elsewhere)

// @ts-expect-error the command does not declare CircuitBreakerError
Join.toLayer(Resilience.circuitBreaker(Join.of(() => Effect.succeed(1)), breaker))

Resilience.circuitBreaker(Join.of(() => Effect.succeed(1)), breaker, {
  // @ts-expect-error the command has no such field
  key: (command) => command.host
})

// --- in a pipe: nothing is annotated, the handler types the options ---

class Gone extends Schema.TaggedError<Gone>()("Gone", {}) {}

const byGenerator = Resilience.handler(Join)(
  Effect.fn("Join")(function*(command, { collect }) {
    const count = yield* risky(command.userId)
    yield* collect(new Joined({ userId: command.userId }))
    return count
  })
)
const byFunction = Resilience.handler(Join)((command) => risky(command.userId))
const ofCommand = Join.of(() => Effect.fail(new Full()))
const ofEvent = Greet.of(Effect.fnUntraced(function*(event, { collect }) {
  yield* collect(new Announced({ id: event.userId }))
  return yield* new Full()
}))
const openEvent = Resilience.handler(Greet)((event) => Effect.asVoid(risky(event.userId)))

/** A retry keeps errors and services, whatever the handler is made of. */
const retriedGenerator = pipe(byGenerator, Resilience.retry({ schedule: Schedule.exponential("50 millis") }))
check<Equals<ErrorOf<typeof retriedGenerator>, Full | Down | Slow>>()
check<Equals<ServicesOf<typeof retriedGenerator>, Rooms>>()
check<Equals<typeof retriedGenerator, typeof byGenerator>>()

const retriedFunction = pipe(byFunction, Resilience.retry({ schedule: Schedule.recurs(3) }))
check<Equals<typeof retriedFunction, typeof byFunction>>()

const retriedCommand = pipe(ofCommand, Resilience.retry({ schedule: Schedule.recurs(3) }))
check<Equals<ErrorOf<typeof retriedCommand>, Full>>()
Join.toLayer(retriedCommand)

const retriedEvent = pipe(ofEvent, Resilience.retry({ schedule: Schedule.recurs(3) }))
check<Equals<ErrorOf<typeof retriedEvent>, Full>>()
Greet.toLayer(retriedEvent)

/** `while` sees the errors of the handler. */
const whileDown = pipe(
  byGenerator,
  Resilience.retry({ schedule: Schedule.exponential("50 millis"), while: (error) => error._tag === "Down" })
)
check<Equals<typeof whileDown, typeof byGenerator>>()

pipe(
  openEvent,
  Resilience.retry({
    schedule,
    while: (error) => {
      check<Equals<typeof error, Full | Down | Slow>>()
      return true
    }
  })
)

pipe(
  byFunction,
  Resilience.retry({
    schedule,
    // @ts-expect-error the handler cannot fail with Gone
    while: (error) => error._tag === "Gone"
  })
)

/** What a schedule may fail with and needs is added. */
declare const failingSchedule: Schedule.Schedule<number, unknown, Gone, CircuitBreaker.CircuitBreaker>
const bySchedule = pipe(byFunction, Resilience.retry({ schedule: failingSchedule, while: () => true }))
check<Equals<ErrorOf<typeof bySchedule>, Full | Down | Slow | Gone>>()
check<Equals<ServicesOf<typeof bySchedule>, Rooms | CircuitBreaker.CircuitBreaker>>()

/** A schedule that takes the handler's errors is welcome, one that takes others is not. */
pipe(byFunction, Resilience.retry({ schedule: schedule.pipe(Schedule.setInputType<Full | Down | Slow>()) }))
pipe(
  byFunction,
  // @ts-expect-error the schedule takes Gone alone
  Resilience.retry({ schedule: schedule.pipe(Schedule.setInputType<Gone>()) })
)

/** A named function as `while`: it may take more than the handler's errors. */
declare const isTransient: (error: Full | Down | Slow | Gone) => boolean
const whileTransient = pipe(byFunction, Resilience.retry({ schedule, while: isTransient }))
check<Equals<ErrorOf<typeof whileTransient>, Full | Down | Slow>>()

// Chains of three

const retryFallback = pipe(
  byGenerator,
  Resilience.retry({ schedule: Schedule.exponential("50 millis"), while: (error) => error._tag !== "Full" }),
  Resilience.timeout("2 seconds"),
  Resilience.fallback({
    on: ["Down", "Slow", "HandlerTimeout"],
    to: (command, { collect }, error) => {
      check<Equals<typeof error, Down | Slow | Resilience.HandlerTimeout>>()
      return Effect.as(collect(new Joined({ userId: command.userId })), 0)
    }
  })
)
check<Equals<ErrorOf<typeof retryFallback>, Full>>()
check<Equals<ServicesOf<typeof retryFallback>, Rooms>>()

/** The same where the layer asks for the handler. */
export const InLayer: Layer.Layer<Command.CommandImplementation<"Join">, never, Rooms> = Join.toLayer(
  [Rooms],
  pipe(
    Resilience.handler(Join)(
      Effect.fn("Join")(function*({ userId }) {
        return yield* risky(userId)
      })
    ),
    Resilience.retry({ schedule: Schedule.recurs(3), while: (error) => error._tag === "Slow" }),
    Resilience.timeout("2 seconds"),
    Resilience.fallback({ on: ["Down", "Slow", "HandlerTimeout"], to: ({ userId }) => Effect.succeed(userId.length) })
  )
)

export const InEffect: Layer.Layer<
  Command.CommandImplementation<"Join">,
  never,
  Rooms | CircuitBreaker.CircuitBreaker
> = Join
  .toLayer(
    [Rooms],
    Effect.gen(function*() {
      const breaker = yield* CircuitBreaker.CircuitBreaker
      return pipe(
        Resilience.handler(Join)((command) => risky(command.userId)),
        Resilience.retry({ schedule: Schedule.recurs(3) }),
        Resilience.circuitBreaker(breaker, { classify: () => CircuitBreaker.failure() }),
        Resilience.fallback({ on: ["Down", "Slow", "CircuitBreakerError"], to: () => Effect.succeed(0) })
      )
    })
  )

export const OfEvent: Layer.Layer<EventHandler.EventHandlerImplementation<"Greet">, never, Rooms> = Greet.toLayer(
  [Rooms],
  pipe(
    openEvent,
    Resilience.retry({ schedule: Schedule.recurs(3) }),
    Resilience.timeout("2 seconds"),
    Resilience.fallback({
      on: ["Down", "Slow", "HandlerTimeout"],
      to: (event, { collect }) => collect(new Announced({ id: event.userId }))
    })
  )
)

const slowEvent = pipe(
  openEvent,
  Resilience.retry({ schedule }),
  Resilience.fallback({ on: ["Down"], to: () => Effect.void })
)
// @ts-expect-error the event handler does not declare Slow
Greet.toLayer([Rooms], slowEvent)

pipe(
  byFunction,
  Resilience.retry({ schedule }),
  Resilience.fallback({
    // @ts-expect-error the handler cannot fail with Gone
    on: ["Gone"],
    to: () => Effect.succeed(0)
  })
)

/** Named functions: they may take more than the handler gives. */
declare const cached: (command: { readonly userId: string }) => Effect.Effect<number>
const toCache = pipe(byFunction, Resilience.retry({ schedule }), Resilience.fallback({ to: cached }))
check<Equals<ErrorOf<typeof toCache>, never>>()
Join.toLayer([Rooms], toCache)

declare const keyOf: (command: { readonly userId: string }) => string
const keyed = pipe(byFunction, Resilience.retry({ schedule }), Resilience.circuitBreaker(breaker, { key: keyOf }))
check<Equals<ErrorOf<typeof keyed>, Full | Down | Slow | CircuitBreaker.CircuitBreakerError>>()

const classified = pipe(
  byFunction,
  Resilience.retry({ schedule }),
  Resilience.circuitBreaker(breaker, {
    key: (command) => command.userId,
    classify: (exit) => {
      check<Equals<typeof exit, Exit.Exit<number, Full | Down | Slow>>>()
      return CircuitBreaker.failure()
    }
  })
)
check<Equals<ErrorOf<typeof classified>, Full | Down | Slow | CircuitBreaker.CircuitBreakerError>>()

// --- one call in the other ---

const nested = Resilience.fallback(
  Resilience.circuitBreaker(
    Resilience.retry(
      Resilience.handler(Join)(({ userId }) => risky(userId)),
      { schedule, while: (error) => error._tag === "Slow" }
    ),
    breaker,
    { key: (command) => command.userId }
  ),
  {
    on: ["Down", "CircuitBreakerError"],
    to: (command, { collect }, error) => {
      check<Equals<typeof error, Down | CircuitBreaker.CircuitBreakerError>>()
      return Effect.as(collect(new Joined({ userId: command.userId })), 0)
    }
  }
)
check<Equals<ErrorOf<typeof nested>, Full | Slow>>()
check<Equals<ServicesOf<typeof nested>, Rooms>>()

export const NestedInLayer: Layer.Layer<Command.CommandImplementation<"Join">, never, Rooms> = Join.toLayer(
  [Rooms],
  Resilience.fallback(
    Resilience.handler(Join)((command) => risky(command.userId)),
    { on: ["Down", "Slow"], to: (command) => Effect.succeed(command.userId.length) }
  )
)

const notNested = Resilience.fallback(
  Resilience.handler(Join)((command) => risky(command.userId)),
  // @ts-expect-error the handler cannot fail with Gone
  { on: ["Gone"], to: (command) => Effect.succeed(command.userId.length) }
)
// @ts-expect-error so nothing is taken away
Join.toLayer([Rooms], notNested)

// --- one policy for many handlers ---

const thrice = Resilience.retry({ schedule: Schedule.recurs(3) })
const quickly = Resilience.timeout("1 second")
const guard = Resilience.circuitBreaker(breaker, { key: "rooms" })

const policy = flow(thrice, quickly, guard)

const alone = thrice(byFunction)
check<Equals<typeof alone, typeof byFunction>>()

type Added = Resilience.HandlerTimeout | CircuitBreaker.CircuitBreakerError
const onePipe = pipe(byFunction, thrice, quickly, guard)
check<Equals<ErrorOf<typeof onePipe>, Full | Down | Slow | Added>>()
const oneFlow = policy(ofEvent)
check<Equals<ErrorOf<typeof oneFlow>, Full | Added>>()

thrice(Join.of((command) => {
  // @ts-expect-error the command has no such field
  return Effect.succeed(command.host)
}))

// @ts-expect-error the command does not declare HandlerTimeout
Join.toLayer(quickly(ofCommand))
