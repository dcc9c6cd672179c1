/**
 * W3C Trace Context (https://www.w3.org/TR/trace-context/), version 00.
 */
import * as Context from "effect/Context"
import * as Option from "effect/Option"
import * as Tracer from "effect/Tracer"

/** Where a message belongs in a trace; `tracestate` is what the vendors of tracers have to say about it. */
export interface Trace {
  readonly traceparent: string | undefined
  readonly tracestate: string | undefined
}

const none: Trace = { traceparent: undefined, tracestate: undefined }

/**
 * What a message says that is published in this context, by the handler of a
 * message that came with `received`. Without a span of its own it passes on what
 * came, and so it does with a span that no tracer sees. The trace state belongs
 * to a trace: in another one it is dropped.
 */
export const outgoing = (context: Context.Context<never>, received: Trace = none): Trace => {
  if (Context.get(context, Tracer.DisablePropagation)) return none
  const own = propagated(Context.getOrUndefined(context as Context.Context<Tracer.ParentSpan>, Tracer.ParentSpan))
  const parent = parse(received.traceparent)
  if (own === undefined) return parent === undefined ? none : received
  const { span, traceparent } = own
  const isOfTrace = span.traceId === parent?.traceId
  const isSeen = span._tag === "ExternalSpan" || Context.getOrUndefined(context, Tracer.Tracer) !== undefined
  if (parent !== undefined && !isOfTrace && !isSeen) return received
  return { traceparent, tracestate: isOfTrace ? received.tracestate : undefined }
}

/** The nearest span that may show in messages, if its ids can. */
const propagated = (
  span: Tracer.AnySpan | undefined
): { readonly span: Tracer.AnySpan; readonly traceparent: string } | undefined => {
  if (span === undefined) return undefined
  if (Context.get(span.annotations, Tracer.DisablePropagation)) {
    return span._tag === "Span" ? propagated(Option.getOrUndefined(span.parent)) : undefined
  }
  const traceparent = `00-${span.traceId}-${span.spanId}-${span.sampled ? "01" : "00"}`
  return pattern.test(traceparent) ? { span, traceparent } : undefined
}

// Version ff is invalid; only versions above 00 may have more behind the flags
const pattern = /^(?!ff|00.{54})[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})(?![^-])/

const parse = (traceparent: string | undefined) => {
  const match = traceparent === undefined ? null : pattern.exec(traceparent)
  return match === null ? undefined : {
    traceId: match[1]!,
    spanId: match[2]!,
    sampled: (Number.parseInt(match[3]!, 16) & 1) === 1
  }
}

/** The sender's span; undefined for a malformed header, which the specification says to ignore. */
export const toSpan = (traceparent: string): Tracer.ExternalSpan | undefined => {
  const parent = parse(traceparent)
  return parent === undefined ? undefined : Tracer.externalSpan(parent)
}
