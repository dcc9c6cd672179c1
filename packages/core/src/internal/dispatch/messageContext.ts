/** What a fiber's context says about the messages that are published in it; see `MessageCodec.MessageContext`. */
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Ids from "../../Ids.ts"
import type { Headers } from "../../Message.ts"
import { attribute } from "../../Message.ts"
import * as Traceparent from "../telemetry/traceparent.ts"
import { consumedOf, CurrentFlow, type Flow } from "./flow.ts"

/** Looks each thing up when it is first needed. */
export class FiberMessageContext {
  readonly #context: Context.Context<never>
  #trace: Traceparent.Trace | undefined = undefined
  constructor(context: Context.Context<never>) {
    this.#context = context
  }
  get correlation(): Flow | undefined {
    return Context.get(this.#context, CurrentFlow)
  }
  get traceparent(): string | undefined {
    return this.#outgoing.traceparent
  }
  get tracestate(): string | undefined {
    return this.#outgoing.tracestate
  }
  get baggage(): Headers[string] | undefined {
    return consumedOf(this.#context)?.message.headers["baggage"]
  }
  get clock(): Clock.Clock {
    return Context.get(this.#context, Clock.Clock)
  }
  get ids(): Ids.Ids {
    return Context.get(this.#context, Ids.Ids)
  }
  get #outgoing(): Traceparent.Trace {
    const consumed = consumedOf(this.#context)?.message
    return this.#trace ??= Traceparent.outgoing(
      this.#context,
      consumed && { traceparent: attribute(consumed, "traceparent"), tracestate: attribute(consumed, "tracestate") }
    )
  }
}
