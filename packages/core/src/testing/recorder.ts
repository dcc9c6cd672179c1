/** The observer of a tracker. */
import * as Effect from "effect/Effect"
import { Waiters } from "../BrokerLayer.ts"
import type * as Event from "../Event.ts"
import type * as FlowObserver from "../FlowObserver.ts"
import type { Message } from "../Message.ts"
import * as Flow from "./Flow.ts"

type Mutable<S extends Flow.Step> =
  & { -readonly [K in Exclude<keyof S, "children">]: S[K] }
  & { readonly children: Array<Flow.Step> }

/**
 * Records what happens in the flows that it observes as the steps of a `Flow`,
 * and counts what runs.
 */
export class Recorder implements FlowObserver.FlowObserver {
  /** Commands, handlers and deliveries that have started since the tracker was made, and of those, the running ones. */
  started = 0
  running = 0
  #isRecording = false
  #steps: Array<Flow.Step> = []
  #runs = new Map<object, Mutable<Flow.CommandStep> | Mutable<Flow.HandlerStep> | Mutable<Flow.DeliveryStep>>()
  /** One object may be collected, or decoded, more than once. */
  #origins = new Map<Event.Any, Array<Mutable<Flow.EventStep> | Mutable<Flow.DeliveryStep>>>()
  #messages = new Map<Message, Mutable<Flow.MessageStep>>()
  #messagesById = new Map<string, Mutable<Flow.MessageStep>>()
  readonly #idle = new Waiters()

  begin(): void {
    this.#isRecording = true
    this.#steps = []
  }

  end(): void {
    this.#isRecording = false
    this.#steps = []
    this.#runs.clear()
    this.#origins.clear()
    this.#messages.clear()
    this.#messagesById.clear()
  }

  /** Everything: a run waits for what it does not record as well. */
  isSampled(): boolean {
    return true
  }

  get flow(): Flow.Flow {
    return new Flow.Flow([...this.#steps])
  }

  /** Waits until nothing runs. */
  readonly awaitIdle: Effect.Effect<void> = this.#idle.until(() => this.running === 0 ? Effect.void : undefined)

  readonly commandStarted: FlowObserver.FlowObserver["commandStarted"] = (run, command, parent) => {
    this.#start()
    this.#record((steps) => {
      const step: Mutable<Flow.CommandStep> = {
        _tag: "Command",
        command,
        outcome: undefined,
        attempts: [],
        parent: parent === undefined ? undefined : this.#runs.get(parent),
        children: []
      }
      this.#runs.set(run, step)
      steps.push(step)
      return step
    })
  }

  commandHandling(): void {
    // Its end says all that is recorded
  }

  readonly commandHandled: FlowObserver.FlowObserver["commandHandled"] = (run, exit) => {
    const step = this.#runs.get(run)
    if (step?._tag === "Command") step.attempts = [...step.attempts, exit]
  }

  readonly commandEnded: FlowObserver.FlowObserver["commandEnded"] = (run, exit) => {
    const step = this.#runs.get(run)
    if (step?._tag === "Command") step.outcome = exit
    this.#stop()
  }

  readonly handlerStarted: FlowObserver.FlowObserver["handlerStarted"] = (run, handler, event) => {
    this.#start()
    this.#record((steps) => {
      const step: Mutable<Flow.HandlerStep> = {
        _tag: "Handler",
        handler,
        event,
        outcome: undefined,
        parent: this.#originOf(event, (child) => child._tag === "Handler" && child.handler === handler),
        children: []
      }
      this.#runs.set(run, step)
      steps.push(step)
      return step
    })
  }

  readonly handlerEnded: FlowObserver.FlowObserver["handlerEnded"] = (run, exit) => {
    const step = this.#runs.get(run)
    if (step?._tag === "Handler") step.outcome = exit
    this.#stop()
  }

  readonly collected: FlowObserver.FlowObserver["collected"] = (run, events) => {
    for (const event of events) {
      this.#record((steps) => {
        const step: Mutable<Flow.EventStep> = { _tag: "Event", event, parent: this.#runs.get(run), children: [] }
        this.#addOrigin(event, step)
        steps.push(step)
        return step
      })
    }
  }

  readonly published: FlowObserver.FlowObserver["published"] = (events, messages, delivery) => {
    for (const [i, message] of messages.entries()) {
      this.#record((steps) => {
        const event = events[i]
        const step: Mutable<Flow.MessageStep> = {
          _tag: "Message",
          event,
          message,
          outcome: undefined,
          parent: event === undefined
            ? delivery && this.#runs.get(delivery)
            : this.#originOf(event, (child) => child._tag === "Message"),
          children: []
        }
        this.#messages.set(message, step)
        const id = message.attributes["id"]
        // What is put aside keeps the id of the message that it was
        if (id && event !== undefined) this.#messagesById.set(id, step)
        steps.push(step)
        return step
      })
    }
  }

  readonly publishEnded: FlowObserver.FlowObserver["publishEnded"] = (messages, exit) => {
    for (const message of messages) {
      const step = this.#messages.get(message)
      if (step !== undefined) step.outcome = exit
    }
  }

  readonly deliveryStarted: FlowObserver.FlowObserver["deliveryStarted"] = (run, message, group) => {
    this.#start()
    this.#record((steps) => {
      const id = message.attributes["id"]
      const step: Mutable<Flow.DeliveryStep> = {
        _tag: "Delivery",
        message,
        group,
        event: undefined,
        attempts: 0,
        outcome: undefined,
        parent: !id ? undefined : this.#messagesById.get(id),
        children: []
      }
      this.#runs.set(run, step)
      steps.push(step)
      return step
    })
  }

  readonly deliveryDecoded: FlowObserver.FlowObserver["deliveryDecoded"] = (run, event) => {
    const step = this.#runs.get(run)
    if (step?._tag !== "Delivery") return
    step.event = event
    step.attempts++
    this.#addOrigin(event, step)
  }

  readonly deliveryEnded: FlowObserver.FlowObserver["deliveryEnded"] = (run, outcome) => {
    const step = this.#runs.get(run)
    if (step?._tag === "Delivery") step.outcome = outcome
    this.#stop()
  }

  #record(add: (steps: Array<Flow.Step>) => Flow.Step): void {
    if (!this.#isRecording) return
    const step = add(this.#steps)
    // Read-only for others: this recorder made every step
    if (step.parent !== undefined) (step.parent.children as Array<Flow.Step>).push(step)
  }

  #addOrigin(event: Event.Any, step: Mutable<Flow.EventStep> | Mutable<Flow.DeliveryStep>): void {
    const known = this.#origins.get(event)
    if (known === undefined) this.#origins.set(event, [step])
    else known.push(step)
  }

  /** Where an event came from: of several times, the first that has not led to this yet. */
  #originOf(event: Event.Any, isThis: (child: Flow.Step) => boolean): Flow.Step | undefined {
    const origins = this.#origins.get(event)
    return origins?.find((origin) => !origin.children.some(isThis)) ?? origins?.[origins.length - 1]
  }

  #start(): void {
    this.started++
    this.running++
  }

  #stop(): void {
    if (--this.running === 0) this.#idle.wakeAll()
  }
}
