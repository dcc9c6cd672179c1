/**
 * W3C Trace Context (https://www.w3.org/TR/trace-context/), version 00.
 */
import * as Context from "effect/Context"
import * as Tracer from "effect/Tracer"

export const fromContext = (context: Context.Context<never>): string | undefined => {
  const span = Context.getOrUndefined(context as Context.Context<Tracer.ParentSpan>, Tracer.ParentSpan)
  return span === undefined ? undefined : `00-${span.traceId}-${span.spanId}-${span.sampled ? "01" : "00"}`
}

// Version ff is invalid; only versions above 00 may have more behind the flags
const pattern = /^(?!ff|00.{54})[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(?![^-])/

/** The sender's span; undefined for a malformed header, which the specification says to ignore. */
export const toSpan = (traceparent: string): Tracer.ExternalSpan | undefined => {
  const match = pattern.exec(traceparent)
  if (match === null || /^0+$/.test(match[1]!) || /^0+$/.test(match[2]!)) return undefined
  return Tracer.externalSpan({
    traceId: match[1]!,
    spanId: match[2]!,
    sampled: (Number.parseInt(match[3]!, 16) & 1) === 1
  })
}
