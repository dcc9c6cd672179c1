/**
 * What goes wrong in a simulated run, and how often.
 *
 * @stability unstable
 * @since 0.1.0
 */

/**
 * A fault of one operation of a node on the outside world. The operation has a
 * name and a number: `"totals: commit inbox #2"` is the second commit of that
 * table by any instance of the node `totals`.
 *
 * - `crashBefore`, `crashAfter`: the process dies before the operation happens, or
 *   after it, before it hears of it. It starts again after `downFor` milliseconds.
 * - `failBefore`, `failAfter`: the operation fails before it has had an effect, or
 *   it is done and fails for the caller, who cannot tell the two apart.
 * - `duplicate`: what is published arrives twice.
 * - `loseAck`: an acknowledgement is lost, and the last `count` messages of its lane
 *   are delivered again.
 * - `slow`: it takes `by` milliseconds longer.
 * - `timeout`: a client stops waiting after `after` milliseconds, and its request goes
 *   on: it may still run when the client asks again.
 *
 * @stability unstable
 * @category models
 * @since 0.1.0
 */
export type OperationFault =
  & { readonly operation: string }
  & (
    | { readonly do: "crashBefore" | "crashAfter"; readonly downFor: number }
    | { readonly do: "failBefore" | "failAfter" | "duplicate" }
    | { readonly do: "loseAck"; readonly count: number }
    | { readonly do: "slow"; readonly by: number }
    | { readonly do: "timeout"; readonly after: number }
  )

/**
 * A fault at a time, in milliseconds since the start of the run.
 *
 * - `outage`: the broker cannot be reached for `lasts` milliseconds, and gives what
 *   was not acknowledged to others afterwards.
 * - `rebalance`: the broker takes its messages from a consumer, which hears of it
 *   `heardAfter` milliseconds later and handles them beside the next owner until then.
 * - `restart`: an instance of a node is stopped in order and started again, as by a
 *   deployment.
 * - `stall`: an instance does nothing for `lasts` milliseconds (a long garbage
 *   collection, a frozen machine) and then goes on as if nothing had been. The broker
 *   gives its messages to others meanwhile.
 *
 * @stability unstable
 * @category models
 * @since 0.1.0
 */
export type TimedFault =
  & { readonly time: number }
  & (
    | { readonly do: "outage"; readonly lasts: number }
    | { readonly do: "rebalance"; readonly heardAfter: number; readonly pick: number }
    | { readonly do: "restart"; readonly process: string }
    | { readonly do: "stall"; readonly process: string; readonly lasts: number }
  )

/**
 * Any fault.
 *
 * @stability unstable
 * @category models
 * @since 0.1.0
 */
export type Fault = OperationFault | TimedFault

/**
 * How often something goes wrong. Each run draws which kinds of fault it has and
 * how many, since some bugs show only where another kind is absent; these are the
 * upper limits.
 *
 * @stability unstable
 * @category models
 * @since 0.1.0
 */
export interface Rates {
  /** The chance that a process dies at an operation. Default: up to 0.05. */
  readonly crashes: number
  /** The chance that an operation fails before it happens. Default: up to 0.2. */
  readonly failsBefore: number
  /** The chance that an operation happens and fails for the caller. Default: up to 0.2. */
  readonly failsAfter: number
  /** The chance that what is published arrives twice. Default: up to 0.2. */
  readonly duplicates: number
  /** The chance that an acknowledgement is lost. Default: up to 0.2. */
  readonly lostAcks: number
  /** The chance that an operation takes up to 2 seconds longer. Default: up to 0.1. */
  readonly slow: number
  /** The chance that a client stops waiting for an answer while its request goes on. Default: up to 0.2. */
  readonly timeouts: number
  /** How often in a run the broker cannot be reached. Default: up to 2. */
  readonly outages: number
  /** How often in a run a consumer loses its messages to another. Default: up to 4. */
  readonly rebalances: number
  /** How often in a run an instance is stopped in order and started again. Default: up to 3. */
  readonly restarts: number
  /** How often in a run an instance stands still. Default: up to 2. */
  readonly stalls: number
}

/**
 * No faults at all: orders, preemption and latency alone.
 *
 * @stability unstable
 * @category constants
 * @since 0.1.0
 */
export const none: Rates = {
  crashes: 0,
  failsBefore: 0,
  failsAfter: 0,
  duplicates: 0,
  lostAcks: 0,
  slow: 0,
  timeouts: 0,
  outages: 0,
  rebalances: 0,
  restarts: 0,
  stalls: 0
}

/**
 * A fault in words.
 *
 * @stability unstable
 * @category rendering
 * @since 0.1.0
 */
export const describe = (fault: Fault): string =>
  "time" in fault ? `at ${fault.time} ms ${describeTimed(fault)}` : `${fault.operation}: ${describeOperation(fault)}`

// --- internal ---

const describeTimed = (fault: TimedFault): string => {
  switch (fault.do) {
    case "outage":
      return `the broker is away for ${fault.lasts} ms`
    case "rebalance":
      return `the broker takes its messages from a consumer, which hears of it ${fault.heardAfter} ms later`
    case "restart":
      return `${fault.process} is stopped in order and started again`
    case "stall":
      return `${fault.process} stands still for ${fault.lasts} ms`
  }
}

const describeOperation = (fault: OperationFault): string => {
  switch (fault.do) {
    case "crashBefore":
      return `the process dies before it, and is down for ${fault.downFor} ms`
    case "crashAfter":
      return `the process dies after it, and is down for ${fault.downFor} ms`
    case "failBefore":
      return "it fails"
    case "failAfter":
      return "it is done, and fails for the caller"
    case "duplicate":
      return "it arrives twice"
    case "loseAck":
      return `it is lost: the last ${fault.count} message(s) of the lane come again`
    case "slow":
      return `it takes ${fault.by} ms longer`
    case "timeout":
      return `the client stops waiting after ${fault.after} ms, and it goes on`
  }
}
