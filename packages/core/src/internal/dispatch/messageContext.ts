/** What a message says of the fiber that publishes it. */
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import type * as Correlation from "../../Correlation.ts"
import { attribute, type HeaderValue } from "../../Message.ts"
import type { MessageContext } from "../../MessageCodec.ts"
import * as Traceparent from "../telemetry/traceparent.ts"
import { CurrentFlow, deliveryOf } from "./flow.ts"

/** The correlation, the span and the clock of a fiber's context, each looked up when it is first needed. */
export class FiberMessageContext implements MessageContext {
  readonly #context: Context.Context<never>
  #trace: Traceparent.Trace | undefined = undefined
  constructor(context: Context.Context<never>) {
    this.#context = context
  }
  get correlation(): Correlation.Correlation | undefined {
    return Context.get(this.#context, CurrentFlow)
  }
  get traceparent(): string | undefined {
    return this.#outgoing.traceparent
  }
  get tracestate(): string | undefined {
    return this.#outgoing.tracestate
  }
  get baggage(): HeaderValue | undefined {
    return deliveryOf(this.#context)?.message.headers["baggage"]
  }
  get clock(): Clock.Clock {
    return Context.get(this.#context, Clock.Clock)
  }
  get #outgoing(): Traceparent.Trace {
    const consumed = deliveryOf(this.#context)?.message
    return this.#trace ??= Traceparent.outgoing(
      this.#context,
      consumed && { traceparent: attribute(consumed, "traceparent"), tracestate: attribute(consumed, "tracestate") }
    )
  }
}
