/**
 * What is measured: the workloads, the payload that all subjects carry, and the tally that proves the work was done.
 */

export const workloads = ["W1", "W2", "W3", "W4", "W5", "W6"] as const

export type Workload = (typeof workloads)[number]

export const descriptions: Record<Workload, string> = {
  W1: "command without events",
  W2: "one event, one handler",
  W3: "ten events, three handlers each",
  W4: "as W3, ten events at a time, each handler sleeps 1 ms",
  W5: "follow-up chain of depth 100",
  W6: "one notification event, encoded to JSON, to a broker that does nothing"
}

/** Events of W3 and W4, and how many of W4 may run at once. */
export const fanOut = 10

/** Follow-ups of W5. */
export const depth = 100

/** The payload of every command and event. */
export interface Seat {
  readonly meetingId: string
  readonly userId: string
  readonly seat: number
}

export const meetingId = "meeting-1"
export const userId = "user-1"

/** Differs from unit to unit, so that a response and an event are those of their own command. */
export const seatOf = (unit: number): number => unit % 1000

/** W6: the JSON bytes that the subjects without a codec of their own send. Buffer is twice as fast as TextEncoder. */
export const encode = (event: Seat): Uint8Array => Buffer.from(JSON.stringify(event))

export interface Tally {
  /** Runs of the command's handler. */
  commands: number
  /** Runs of handlers of events. */
  handlers: number
  /** Sum of the seats that those runs were given. */
  seats: number
  /** Sum of the responses, each of which is the command's seat. */
  answers: number
  /** What the broker of W6 got. */
  messages: number
  bytes: number
  /** Sum of the responses of sends within a unit; see `production/`. */
  nested: number
}

/** One for the process: samples never overlap, and what a subject leaves running shows up in the next one's count. */
export const tally: Tally = { commands: 0, handlers: 0, seats: 0, answers: 0, messages: 0, bytes: 0, nested: 0 }

export const resetTally = (): void => {
  tally.commands = 0
  tally.handlers = 0
  tally.seats = 0
  tally.answers = 0
  tally.messages = 0
  tally.bytes = 0
  tally.nested = 0
}

/** The body of every handler of an event. */
export const countHandler = (event: Seat): void => {
  tally.handlers += 1
  tally.seats += event.seat
}

/** The body of every broker of W6. */
export const countMessage = (body: Uint8Array): void => {
  tally.messages += 1
  tally.bytes += body.length
}

const handlersPerUnit: Record<Workload, number> = { W1: 0, W2: 1, W3: 30, W4: 30, W5: depth, W6: 0 }

/** Fails unless exactly the work of `units` units was done. `ideal` has no command: it is timers only. */
export const checkTally = (workload: Workload, units: number, timersOnly: boolean): void => {
  let seats = 0
  for (let unit = 0; unit < units; unit++) {
    seats += seatOf(unit)
  }
  const expect = (name: string, actual: number, expected: number): void => {
    if (actual !== expected) {
      throw new Error(`${workload}: ${units} units must give ${expected} ${name}, got ${actual}`)
    }
  }
  expect("handler runs", tally.handlers, units * handlersPerUnit[workload])
  if (timersOnly) {
    return
  }
  expect("command handler runs", tally.commands, units)
  expect("as sum of the responses", tally.answers, seats)
  expect("as sum of the seats in events", tally.seats, seats * handlersPerUnit[workload])
  expect("messages", tally.messages, workload === "W6" ? units : 0)
  // An envelope may add to the payload, never take away from it.
  const least = encode({ meetingId, userId, seat: 0 }).length * tally.messages
  if (tally.bytes < least) {
    throw new Error(`${workload}: ${units} units must give ${least} bytes or more, got ${tally.bytes}`)
  }
}
