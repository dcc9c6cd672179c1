/** What amqplib's errors mean. They are plain errors, told apart by reply codes and the server's own words. */
import * as Effect from "effect/Effect"

/** Reply codes of AMQP 0-9-1. */
export const ReplyCode = {
  accessRefused: 403,
  notFound: 404,
  resourceLocked: 405,
  preconditionFailed: 406,
  notAllowed: 530
} as const

export const detailOf = (error: unknown): string => {
  if (!(error instanceof Error)) return String(error)
  // Connecting to a name with several addresses fails with a list and no message
  if (error.message === "" && error instanceof AggregateError) return error.errors.map(detailOf).join("; ")
  return error.message
}

/** What the server was asked failed. */
export class AmqpFailure {
  /** The reply code, where the server closed the channel or connection for it. */
  readonly code: number | undefined
  readonly detail: string
  readonly cause: unknown

  constructor(cause: unknown, detail = detailOf(cause)) {
    const code = typeof cause === "object" && cause !== null && "code" in cause ? cause.code : undefined
    this.code = typeof code === "number" ? code : undefined
    this.detail = detail
    this.cause = cause
  }
}

/** A connection could not be opened. */
export class ConnectFailure extends AmqpFailure {
  /** The server is there, and refuses these credentials or the virtual host. */
  readonly isRefused: boolean

  constructor(cause: unknown, vhost: string) {
    const detail = detailOf(cause)
    // All that amqplib says of a virtual host that is not there, not ours, or not up yet
    const isVhost = detail.startsWith("Expected ConnectionOpenOk; got <ConnectionClose")
    super(cause, isVhost ? `the server refused virtual host "${vhost}": missing, forbidden or not up` : detail)
    this.isRefused = refusals.some((words) => detail.includes(words))
  }
}

/** Asks the server. */
export const ask = <A>(question: () => Promise<A>): Effect.Effect<A, AmqpFailure> =>
  Effect.tryPromise({ try: question, catch: (cause) => new AmqpFailure(cause) })

// A handshake that fails carries no code in amqplib, only the text
const refusals = [
  `Handshake terminated by server: ${ReplyCode.accessRefused} `,
  "SASL mechanism"
]
