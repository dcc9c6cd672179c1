/**
 * Spans in frames that are there anyway. `Effect.withSpan` has some ten steps,
 * which for a command of a microsecond is several times its own time.
 */
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import type * as Exit from "effect/Exit"
import type * as Fiber from "effect/Fiber"
import * as LogLevel from "effect/LogLevel"
import * as Option from "effect/Option"
import * as References from "effect/References"
import * as Tracer from "effect/Tracer"

type AnyFiber = Fiber.Fiber<unknown, unknown>

/** Whether there is somebody to record spans, in whatever trace. */
export const hasTracer = (fiber: AnyFiber): boolean => fiber.cache.tracer !== undefined && fiber.cache.tracerEnabled

/**
 * Whether a span opened in this fiber would be recorded. In a trace that is not
 * sampled none is made: its messages carry the span that is there.
 */
export const isTracing = (fiber: AnyFiber): boolean => hasTracer(fiber) && parentOf(fiber)?.sampled !== false

/** The span that is running, and its times, as `Effect.makeSpan` and `Effect.withSpan` set them. */
export class RunningSpan {
  readonly #span: Tracer.Span
  readonly #clock: Clock.Clock
  readonly #isTimed: boolean
  /** The context of the fiber, with the span in it. */
  readonly context: Context.Context<never>

  /** Starts a span in a fiber that `hasTracer`; its parent is that of the fiber unless another one is given, or null: none. */
  constructor(
    fiber: AnyFiber,
    name: string,
    kind: Tracer.SpanKind,
    attributes: Readonly<Record<string, unknown>>,
    given?: Tracer.AnySpan | null
  ) {
    const { cache, context } = fiber
    this.#clock = Context.get(context, Clock.Clock)
    this.#isTimed = Context.get(context, References.TracerTimingEnabled)
    const parent = Option.fromNullishOr(given === undefined ? parentOf(fiber) : given)
    const level = Context.get(context, Tracer.CurrentTraceLevel)
    this.#span = cache.tracer!.span({
      name,
      parent,
      annotations: Context.empty(),
      links: Context.get(context, References.TracerSpanLinks).slice(),
      startTime: this.#now(),
      kind,
      root: given === null,
      sampled: !(Option.isSome(parent) && parent.value.sampled === false) &&
        !LogLevel.isGreaterThan(Context.get(context, Tracer.MinimumTraceLevel), level)
    })
    const annotations = Context.get(context, References.TracerSpanAnnotations)
    for (const key in annotations) this.#span.attribute(key, annotations[key])
    for (const key in attributes) this.#span.attribute(key, attributes[key])
    const frame: References.StackFrame = { name, stack: noStack, parent: cache.stackFrame }
    const framed = Context.addUnsafe<never, never, unknown>(context, References.CurrentStackFrame.key, frame)
    this.context = Context.addUnsafe<never, never, unknown>(framed, Tracer.ParentSpanKey, this.#span)
  }

  attribute(key: string, value: unknown): void {
    this.#span.attribute(key, value)
  }

  end(exit: Exit.Exit<unknown, unknown>): void {
    if (this.#span.status._tag !== "Ended") this.#span.end(this.#now(), exit)
  }

  #now(): bigint {
    return this.#isTimed ? this.#clock.currentTimeNanosUnsafe() : 0n
  }
}

/** The context of a trace that is not recorded: what it leads to says so. */
export const withinSpan = (context: Context.Context<never>, span: Tracer.AnySpan): Context.Context<never> =>
  Context.addUnsafe<never, never, unknown>(context, Tracer.ParentSpanKey, span)

const noStack = () => undefined

/** The nearest span that is not kept to itself (`Tracer.DisablePropagation`). */
const parentOf = (fiber: AnyFiber): Tracer.AnySpan | undefined => {
  let { span } = fiber.cache
  while (span !== undefined && Context.get(span.annotations, Tracer.DisablePropagation)) {
    span = span._tag === "Span" ? Option.getOrUndefined(span.parent) : undefined
  }
  return span
}

/** Runs an effect in a span, if the fiber `isTracing`. */
export const spanned = <A, E, R>(
  effect: Effect.Effect<A, E, R>,
  name: string,
  kind: Tracer.SpanKind,
  attributes: Readonly<Record<string, unknown>>
): Effect.Effect<A, E, R> =>
  Effect.withFiber((fiber) => {
    if (!isTracing(fiber)) return effect
    const { context } = fiber
    const span = new RunningSpan(fiber, name, kind, attributes)
    fiber.setContext(span.context)
    return Effect.onExitPrimitive(effect, (exit) => {
      fiber.setContext(context)
      span.end(exit)
      return undefined
    })
  })
