/** The outside world of the processes of a run: what they do to it, what goes wrong with that, and what has happened. */
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type { Fault, OperationFault } from "../../Fault.ts"
import type { Schedule } from "../../Recording.ts"
import { unit } from "../seeded.ts"
import { Loop } from "./loop.ts"
import type { Kind, Plan } from "./plan.ts"
import { Process } from "./process.ts"
import { processOf } from "./scheduler.ts"

/** A line of the story of a run. */
export interface Entry {
  /** Milliseconds since the start. */
  readonly time: number
  readonly process: string
  readonly text: string
  readonly isFault: boolean
}

export interface Operation<A, E> {
  readonly kind: Kind
  /** With its number, the name that a fault hangs on. */
  readonly name: string
  /** It happens at once and as a whole; it answers now or later. It may give a function that withdraws it. */
  readonly happen: (answer: (exit: Exit.Exit<A, E>) => void) => void | (() => void)
  /** What the caller hears when it fails. */
  readonly failure?: ((isDone: boolean) => E) | undefined
  /** What happens in its place when an acknowledgement is lost. */
  readonly lose?: ((count: number) => void) | undefined
}

export class World {
  readonly seed: number
  readonly loop: Loop
  readonly #plan: Plan
  /** The world itself, in which nothing dies. */
  readonly outside: Process
  readonly fired: Array<Fault> = []
  readonly story: Array<Entry> = []
  readonly keepsStory: boolean
  /** The operations that a fault could have hit. */
  readonly asked: Array<{ readonly operation: string; readonly kind: Kind }> = []
  /** From here on nothing goes wrong any more. */
  isCalm = false
  /** When something last changed: a publish, a commit, an acknowledgement. */
  lastChange = 0
  onChange: () => void = () => {}
  /** Lets a process die, to start again later. */
  crash: (process: Process, downFor: number) => void = () => {}
  readonly #counts = new Map<string, number>()

  constructor(options: {
    readonly seed: number
    readonly schedule: Schedule
    readonly plan: Plan
    readonly keepsStory: boolean
  }) {
    this.seed = options.seed
    this.#plan = options.plan
    this.keepsStory = options.keepsStory
    this.loop = new Loop(options.seed, options.schedule)
    this.outside = this.process("world")
  }

  process(name: string, node = name): Process {
    return new Process(this.loop, this.seed, name, node)
  }

  get timed(): Plan["timed"] {
    return this.#plan.timed
  }

  changed(): void {
    this.lastChange = this.loop.now
    this.onChange()
  }

  /** A line of the story. `text` may be a function where it costs something. */
  tell(process: string, text: string | (() => string), isFault = false): void {
    if (this.keepsStory) {
      const line = typeof text === "string" ? text : text()
      this.story.push({ time: this.loop.now, process, text: line, isFault })
    }
    this.loop.mix(process)
  }

  /** A name with the number of its turn. */
  #number(name: string): string {
    const n = (this.#counts.get(name) ?? 0) + 1
    this.#counts.set(name, n)
    return n === 1 ? name : `${name} #${n}`
  }

  /** An operation of the process that the calling fiber belongs to: a request, what it does, an answer. */
  operation<A, E>(operation: Operation<A, E>): Effect.Effect<A, E> {
    return Effect.withFiber((fiber) => {
      const process = processOf(fiber)
      if (process === undefined) {
        return Effect.die(new Error(`"${operation.name}" was asked for outside of a simulated process`))
      }
      return Effect.callback<A, E>((resume) => this.#start(process, operation, resume))
    })
  }

  #start<A, E>(
    process: Process,
    { failure, happen, kind, lose, name }: Operation<A, E>,
    resume: (effect: Effect.Effect<A, E>) => void
  ): Effect.Effect<void> | void {
    const operation = this.#number(`${process.node}: ${name}`)
    let fault: OperationFault | undefined
    if (!this.isCalm) {
      if (this.keepsStory) this.asked.push({ operation, kind })
      fault = this.#plan.faultOf(operation, kind)
    }
    const fire = (text: string) => {
      this.fired.push(fault!)
      this.tell(process.name, `${name}: ${text}`, true)
    }
    const { epoch } = process
    let isCancelled = false
    let isAnswered = false
    let isGivenUp = false
    let withdraw: void | (() => void)

    const answer = (exit: Exit.Exit<A, E>): void => {
      if (isAnswered || process.epoch !== epoch) return
      isAnswered = true
      let reply = exit
      if (fault?.do === "crashAfter") {
        fire("the process dies after it")
        return this.crash(process, fault.downFor)
      }
      if (fault?.do === "failAfter" && failure !== undefined && Exit.isSuccess(exit)) {
        fire("it is done, and fails for the caller")
        reply = Exit.fail(failure(true))
      }
      this.#travel(process, `${operation}/back`, 0, () => {
        if (!isCancelled && !isGivenUp) resume(reply)
      })
    }

    const arrive = (): void => {
      if (isCancelled) return
      if (fault?.do === "failBefore" && failure !== undefined) {
        fire("it fails")
        return answer(Exit.fail(failure(false)))
      }
      if (fault?.do === "loseAck" && lose !== undefined) {
        fire(`it is lost, the last ${fault.count} message(s) of the lane come again`)
        lose(fault.count)
        // Nobody waits for the value of an acknowledgement
        return answer(Exit.void as Exit.Exit<unknown, never> as Exit.Exit<A, E>)
      }
      if (fault?.do === "duplicate") {
        fire("it arrives twice")
        void happen(() => {})
      }
      withdraw = happen(answer)
    }

    if (fault?.do === "crashBefore") {
      fire("the process dies before it")
      return this.crash(process, fault.downFor)
    }
    if (fault?.do === "timeout" && failure !== undefined) {
      const giveUp = () => {
        if (isAnswered || isCancelled) return
        isGivenUp = true
        fire("the client stops waiting, and it goes on")
        resume(Exit.fail(failure(false)))
      }
      if (fault.after === 0) process.push(giveUp)
      else process.after(fault.after, giveUp)
    }
    if (fault?.do === "slow") fire(`it takes ${fault.by} ms longer`)
    this.#travel(process, `${operation}/there`, fault?.do === "slow" ? fault.by : 0, arrive)
    return Effect.sync(() => {
      isCancelled = true
      withdraw?.()
    })
  }

  #travel(process: Process, name: string, extra: number, arrive: () => void): void {
    const { latency } = this.loop.schedule
    const millis = extra + (latency === 0 ? 0 : Math.round(unit(this.seed, name) * latency * 100) / 100)
    if (millis === 0) process.push(arrive)
    else process.after(millis, arrive)
  }
}
