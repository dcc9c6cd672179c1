/** What a program has around its commands. */

/** Services in the program's context besides those of the flow; a program of some size has twenty. */
const usual = 20

export interface Configuration {
  readonly description: string
  /** Services in the context. */
  readonly services: number
  /** Each unit is run with a service of its own, as a server runs a request. */
  readonly request?: true
  /** Logging, and authentication that provides the current user. */
  readonly middleware?: true
  readonly metrics?: true
  /** One in how many traces is recorded; the server's span is around each unit. */
  readonly tracing?: number
  /** Who records the spans: they are made and dropped, or given to Effect's OTLP exporter. Default: dropped. */
  readonly exporter?: "otlp"
  /** An observer that samples nothing. */
  readonly observer?: true
}

const all = {
  bare: { description: "nothing", services: usual },
  "request-0": { description: "a request's own service, no others", services: 0, request: true },
  "request-20": { description: "a request's own service, 20 others", services: usual, request: true },
  "request-200": { description: "a request's own service, 200 others", services: 200, request: true },
  middleware: { description: "logging and authentication", services: usual, middleware: true },
  metrics: { description: "metrics", services: usual, metrics: true },
  "tracing-100": { description: "a server's span, all traces recorded", services: usual, tracing: 1 },
  "tracing-1": { description: "a server's span, one trace in 100 recorded", services: usual, tracing: 100 },
  "otlp-100": {
    description: "as tracing-100, to Effect's OTLP exporter",
    services: usual,
    tracing: 1,
    exporter: "otlp"
  },
  observer: { description: "an observer that samples nothing", services: usual, observer: true },
  everything: {
    description: "a request's service, middleware, metrics, all traces recorded",
    services: usual,
    request: true,
    middleware: true,
    metrics: true,
    tracing: 1
  }
} as const satisfies Record<string, Configuration>

export type ConfigurationName = keyof typeof all

export const configurations: Readonly<Record<ConfigurationName, Configuration>> = all

export const configurationNames = Object.keys(all) as ReadonlyArray<ConfigurationName>

export const workloads = ["W1", "W2", "W3", "W5", "W6", "W6-read", "nested", "concurrent", "consume"] as const

export type Workload = (typeof workloads)[number]

export const descriptions: Readonly<Record<Workload, string>> = {
  W1: "command without events",
  W2: "one event, one handler",
  W3: "ten events, three handlers each",
  W5: "follow-up chain of depth 100",
  W6: "one notification event, encoded to JSON, to a broker that does nothing",
  "W6-read": "as W6, and the broker reads the attributes (id, time, type) as those with a network do",
  nested: "a command whose handler sends ten of W1",
  concurrent: "100 commands of W1 at once",
  consume: "a message from a subscriber in memory to its handler; everything: with an inbox in memory"
}

/** Sends of a unit. */
export const nestedSends = 10
export const concurrentSends = 100

export const subjectNames = ["event-flow", "by-hand", "@nestjs/cqrs"] as const

export type SubjectName = (typeof subjectNames)[number]
